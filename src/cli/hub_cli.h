/* What the hub's commands share. */
#ifndef FS_CLI_HUB_CLI_H
#define FS_CLI_HUB_CLI_H

#include "hub/hub.h"

/* Opens the hub in the folder that --data named, with the keys of its S3 store that stand in the environment. options may be NULL. */
fs_status hub_cli_open(const char *data, const fs_hub_options *options, fs_hub **ret, fs_error *err);

#endif
