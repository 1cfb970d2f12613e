/* A library that a module needs; and an older one, without what the module needs of it. */
#ifndef OLD
int needed_since_yesterday(void);

int needed_since_yesterday(void) {
    return 0;
}
#endif

int needed_for_years(void);

int needed_for_years(void) {
    return 0;
}
