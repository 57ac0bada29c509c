#define _GNU_SOURCE
#include "team.h"

#include <sched.h>
#include <unistd.h>

static pid_t owner;

__attribute__((constructor)) static void note_owner(void) {
    owner = getpid();
}

#if defined(_OPENMP)
#include <omp.h>

void ftwt_together(ftwt_work_of *work, void *data, int threads) {
    if (threads <= 1 || getpid() != owner) {
        work(data, 0, 1);
        return;
    }
#pragma omp parallel num_threads(threads)
    work(data, omp_get_thread_num(), omp_get_num_threads());
}
#else
#include <dlfcn.h>

typedef void gomp_parallel(void (*fn)(void *), void *data, unsigned threads, unsigned flags);

static gomp_parallel *parallel;
static int (*thread_number)(void);
static int (*thread_count)(void);

__attribute__((constructor)) static void find_runtime(void) {
    void *from = RTLD_DEFAULT; /* a null pointer with glibc, so it cannot stand for a failure */
    if (!dlsym(from, "GOMP_parallel")) {
        from = dlopen("libgomp.so.1", RTLD_NOLOAD | RTLD_NOW);
        if (!from) return;
    }
    /* By way of a union: ISO C has no cast from object to function pointer. */
    union { void *object; gomp_parallel *run; int (*number)(void); } symbol;
    symbol.object = dlsym(from, "omp_get_thread_num");
    thread_number = symbol.number;
    symbol.object = dlsym(from, "omp_get_num_threads");
    thread_count = symbol.number;
    symbol.object = dlsym(from, "GOMP_parallel");
    parallel = thread_number && thread_count ? symbol.run : 0;
}

typedef struct {
    ftwt_work_of *work;
    void *data;
} task;

static void run_task(void *data) {
    const task *t = data;
    t->work(t->data, thread_number(), thread_count());
}

void ftwt_together(ftwt_work_of *work, void *data, int threads) {
    if (threads <= 1 || !parallel || getpid() != owner) {
        work(data, 0, 1);
        return;
    }
    task t = {work, data};
    parallel(run_task, &t, (unsigned)threads, 0);
}
#endif

static void note_size(void *data, int thread, int threads) {
    if (thread == 0) *(int *)data = threads;
}

int ftwt_team_size(int threads) {
    int size = 0;
    ftwt_together(note_size, &size, threads);
    return size;
}

static void pause_briefly(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
}

void ftwt_meet(ftwt_barrier *barrier, int threads, void (*last)(void *data), void *data) {
    int round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&barrier->arrived, 1, __ATOMIC_ACQ_REL) == threads) {
        barrier->arrived = 0;
        last(data);
        __atomic_store_n(&barrier->round, round + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int spins = 0; __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round;)
        if (++spins < 4000)
            pause_briefly();
        else
            sched_yield(); /* more threads than processors */
}
