/* See the header. */
#include "cli/hub_cli.h"

#include <stdlib.h>

fs_status hub_cli_open(const char *data, const fs_hub_options *options, fs_hub **ret, fs_error *err)
{
    fs_hub_options o = options ? *options : (fs_hub_options){ .url = NULL };

    if (!data)
        return fs_fail(err, FS_ERR_ARGUMENT, "--data says where the hub is");
    o.s3_access_key = getenv("AWS_ACCESS_KEY_ID");
    o.s3_secret_key = getenv("AWS_SECRET_ACCESS_KEY");
    o.s3_session_token = getenv("AWS_SESSION_TOKEN");
    return fs_hub_open(data, &o, ret, err);
}
