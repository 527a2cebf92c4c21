/* Gives up what inference does not need, for good and for every thread: docs/security.md says what is left. */
#ifndef FS_BASE_SANDBOX_H
#define FS_BASE_SANDBOX_H

#include "base/status.h"

/* From here on the process can compute, take memory, read and write what is open already, and drive its terminal; opening
 * files, sockets, new threads or processes, executable memory and everything else fail with EPERM. Linux on x86-64 and
 * aarch64; FS_ERR_UNSUPPORTED, and nothing has changed, elsewhere and where the kernel has no seccomp. Where the kernel has Landlock, the calling thread and its later children are barred from the file system and
 * from TCP a second time. Call once, with every thread started. */
fs_status fs_sandbox_enter(fs_error *err);

#endif
