/* process.h - a child of fork() has none of its parent's threads: it must not compute. */
#ifndef PHI3_INTERNAL_PROCESS_H
#define PHI3_INTERNAL_PROCESS_H

#include "phi3.h"

/* Called before work that starts threads. PHI3_ERROR_FORKED in a process whose parent had started
 * such work before the fork: there, GNU OpenMP would wait for threads that do not exist. */
phi3_status phi3_process_begin_work(phi3_error *error);

#endif
