#ifndef FTWT_CHECK_H
#define FTWT_CHECK_H

#include "program.h"

/* Whether sizes, indices and pointers of a program fit together. */
int ftwt_holds(const ftwt_program *program);

#endif
