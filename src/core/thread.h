/* thread.h — the compute pool's size. OpenMP (libgomp, the one oneDNN links) is the only pool;
 * results never depend on its size, because work is cut into pieces of fixed size.
 */
#ifndef CORE_THREAD_H
#define CORE_THREAD_H

/* n <= 0 = one thread a core this process may use. */
void threads_set(int n);
int threads_count(void);

#endif
