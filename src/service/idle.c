/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The list of idle sessions. A session that says nothing from the beginning is as idle as one that says nothing any more. */

#include <stddef.h>

#include "service/idle.h"

void idle_list_init(IdleList *list) {
        *list = (IdleList){.last = &list->first};
}

static void leave(IdleList *list, IdleEntry *entry) {
        if (!entry->link)
                return;
        *entry->link = entry->next;
        if (entry->next)
                entry->next->link = entry->link;
        else
                list->last = entry->link;
        entry->link = NULL;
}

void idle_list_update(IdleList *list, IdleEntry *entry, bool idle, uint64_t last_input) {
        if (idle && entry->link && entry->since == last_input)
                return;
        leave(list, entry);
        if (!idle)
                return;
        entry->since = last_input;
        entry->next = NULL;
        entry->link = list->last;
        *list->last = entry;
        list->last = &entry->next;
}

IdleEntry *idle_list_first(const IdleList *list) {
        return list->first;
}
