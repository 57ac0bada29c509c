/* Large pages for what is read a lot and lies scattered. */
#ifndef FTWT_PAGES_H
#define FTWT_PAGES_H

#include <stdint.h>

/* Asks the system to hold these bytes, and what shares pages with them, in as few pages as it can.
 * Contents and addresses stay; nothing happens where the system cannot. */
void ftwt_gather_pages(const void *memory, int64_t bytes);

#endif
