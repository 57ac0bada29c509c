#ifndef FTWT_LIVE_H
#define FTWT_LIVE_H

#include "engine.h"

/* Works out set `number` for all samples; its parts come before it. */
void ftwt_evaluate(struct ftwt_plan *plan, int number);

#endif
