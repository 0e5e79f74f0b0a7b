/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* c-ares takes the message apart; this file judges what it says. Whoever answers for a domain chooses these names, so only what
 * may stand in a host name goes on: an octet of another kind could end up in a log or a question. The random order
 * among equals spreads the load over a domain's servers and need not be hard to guess. */

#include <ares.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "net/host.h"
#include "net/records.h"

typedef struct Record {
        const char *name; /* c-ares's */
        uint16_t port;
        unsigned preference, weight;
        uint64_t key; /* random; for MX the order among equals */
} Record;

typedef struct Records {
        Record list[RECORDS_MAX];
        size_t n;
        size_t n_seen, n_null; /* good or not; those that say "nobody" */
} Records;

static uint64_t random_number(void) {
        uint64_t number;

        if (getrandom(&number, sizeof(number), GRND_NONBLOCK) != (ssize_t) sizeof(number))
                number = clock_monotonic(); /* it only spreads the load */
        return number;
}

static void records_add(Records *records, const Record *record) {
        const char *name = record->name ? record->name : "";

        records->n_seen++;
        if (name[0] == '\0' || strcmp(name, ".") == 0)
                records->n_null++; /* the root */
        else if (host_name_is_valid(name, strlen(name))) {
                records->list[records->n] = *record;
                records->list[records->n++].key = random_number();
        }
}

static int compare(const void *a, const void *b) {
        const Record *one = a, *other = b;

        if (one->preference != other->preference)
                return one->preference < other->preference ? -1 : 1;
        return one->key < other->key ? -1 : one->key > other->key;
}

/* RFC 2782: of those of one priority each is the next with a probability by its weight; those without weight come first in the
 * row, so that they have a small chance. The row is in random order already. */
static void order_by_weight(Record *row, size_t n) {
        for (size_t i = 0, n_light = 0; i < n; i++)
                if (row[i].weight == 0) {
                        Record record = row[i];

                        row[i] = row[n_light];
                        row[n_light++] = record;
                }

        for (; n > 1; row++, n--) {
                uint64_t total = 0, chosen;
                Record record;
                size_t i = 0;

                for (size_t j = 0; j < n; j++)
                        total += row[j].weight;
                chosen = random_number() % (total + 1);
                while (chosen > row[i].weight) /* ends: chosen is at most the sum of all */
                        chosen -= row[i++].weight;
                record = row[i];
                memmove(row + 1, row, i * sizeof(Record)); /* the others keep their order */
                row[0] = record;
        }
}

static void order(Records *records) {
        qsort(records->list, records->n, sizeof(Record), compare);
        for (size_t start = 0, end; start < records->n; start = end) {
                for (end = start + 1;
                                end < records->n &&
                                records->list[end].preference == records->list[start].preference;
                                end++)
                        ;
                order_by_weight(records->list + start, end - start);
        }
}

static int hand_over(Records *records, ResolverHost **ret, size_t *ret_n) {
        size_t n = MIN_OF(records->n, (size_t) RESOLVER_HOSTS_MAX);
        ResolverHost *hosts;

        if (records->n_seen == 0)
                return -ENODATA;
        if (n == 0)
                return records->n_null > 0 ? -EADDRNOTAVAIL : -EBADMSG;
        hosts = calloc(n, sizeof(ResolverHost));
        if (!hosts)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                hosts[i] = (ResolverHost){
                                .name = strdup(records->list[i].name),
                                .port = records->list[i].port,
                                .preference = records->list[i].preference,
                };
                if (!hosts[i].name) {
                        resolver_hosts_free(hosts, i);
                        return -ENOMEM;
                }
        }
        *ret = hosts;
        *ret_n = n;
        return 0;
}

static int errno_of(int status) {
        return status == ARES_ENOMEM ? -ENOMEM : status == ARES_ENODATA ? -ENODATA : -EBADMSG;
}

int records_read_mx(const uint8_t *answer, size_t size, ResolverHost **ret, size_t *ret_n) {
        struct ares_mx_reply *reply = NULL;
        Records records = {};
        int status, r;

        status = size > INT_MAX ? ARES_EBADRESP : ares_parse_mx_reply(answer, (int) size, &reply);
        if (status != ARES_SUCCESS)
                return errno_of(status);
        for (struct ares_mx_reply *mx = reply; mx && records.n_seen < RECORDS_MAX; mx = mx->next)
                records_add(&records, &(Record){.name = mx->host, .preference = mx->priority});
        qsort(records.list, records.n, sizeof(Record), compare);
        r = hand_over(&records, ret, ret_n);
        ares_free_data(reply);
        return r;
}

int records_read_srv(const uint8_t *answer, size_t size, ResolverHost **ret, size_t *ret_n) {
        struct ares_srv_reply *reply = NULL;
        Records records = {};
        int status, r;

        status = size > INT_MAX ? ARES_EBADRESP : ares_parse_srv_reply(answer, (int) size, &reply);
        if (status != ARES_SUCCESS)
                return errno_of(status);
        for (struct ares_srv_reply *srv = reply; srv && records.n_seen < RECORDS_MAX;
                        srv = srv->next) {
                Record record = {
                                .name = srv->host,
                                .port = srv->port,
                                .preference = srv->priority,
                                .weight = srv->weight,
                };

                if (srv->port == 0 && srv->host && srv->host[0] != '\0')
                        records.n_seen++; /* nobody can be connected to there */
                else
                        records_add(&records, &record);
        }
        order(&records);
        r = hand_over(&records, ret, ret_n);
        ares_free_data(reply);
        return r;
}
