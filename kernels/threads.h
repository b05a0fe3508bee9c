/* threads.h - the parts of the default number of threads that are tested by themselves. */
#ifndef PHI3_THREADS_H
#define PHI3_THREADS_H

/* CPUs that the control group whose files stand in `root` grants, rounded up; 0: no limit is known.
 * cpu.max of version 2, cpu/cpu.cfs_quota_us and cpu/cpu.cfs_period_us of version 1. */
int phi3_cpu_quota(const char *root);

#endif
