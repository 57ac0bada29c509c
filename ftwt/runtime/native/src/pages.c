#include "pages.h"

#if defined(__linux__)
#include <sys/mman.h>

/* Linux 6.1; older headers do not have it, older systems refuse it. */
#if !defined(MADV_COLLAPSE)
#define MADV_COLLAPSE 25
#endif

enum { LARGE = 1 << 21, SMALLEST = 1 << 18 };

void ftwt_gather_pages(const void *memory, int64_t bytes) {
    if (bytes < SMALLEST) return;
    const uintptr_t begin = (uintptr_t)memory / LARGE * LARGE, end = (uintptr_t)memory + (uintptr_t)bytes;
    for (uintptr_t page = begin; page < end; page += LARGE)
        if (madvise((void *)page, LARGE, MADV_COLLAPSE)) continue; /* no harm done */
}
#else
void ftwt_gather_pages(const void *memory, int64_t bytes) {
    (void)memory, (void)bytes;
}
#endif
