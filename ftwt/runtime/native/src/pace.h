/* Whether one thread alone runs a program faster than all together do. */
#ifndef FTWT_PACE_H
#define FTWT_PACE_H

#include <stdint.h>

/* Calls that are timed to compare both ways. */
enum { FTWT_TRIAL = 4 };

/* All zeros is a program that was not run yet. */
typedef struct {
    int64_t recent[FTWT_TRIAL]; /* nanoseconds of the latest calls in the way that is chosen */
    int64_t usual;              /* what they took when it was chosen */
    int64_t tried;              /* the least of the other way's, while that is tried */
    int32_t left;               /* calls of that trial to come */
    int32_t calls, gap;         /* since the last trial, and from that to the next */
    int32_t alone;              /* the way that is chosen */
} ftwt_pace;

/* Whether the next call is for one thread alone. */
int ftwt_alone(const ftwt_pace *pace);

/* Notes what that call took. */
void ftwt_took(ftwt_pace *pace, int64_t nanoseconds);

#endif
