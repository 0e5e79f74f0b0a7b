/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl list --json: a message as an object, in the layout that jansson gives to everything else. The objects
 * are not built in memory first, and text that stands for itself does not go through the library: that takes a third
 * of the time of a long list. */

#include <errno.h>
#include <string.h>

#include "ctl/ctl.h"
#include "ctl/list.h"

#define MEMBER           "\n  "
#define RECIPIENT        "\n    "
#define RECIPIENT_MEMBER "\n      "

static int on_octets(const char *data, size_t size, void *userdata) {
        return buffer_append(userdata, data, size);
}

static bool stands_for_itself(const char *value, size_t size) {
        for (size_t i = 0; i < size; i++)
                if (value[i] < ' ' || value[i] >= 127 || value[i] == '"' || value[i] == '\\')
                        return false;
        return true;
}

static int append_encoded(Buffer *text, const char *value) {
        json_t *encoded = show_json(value);
        int r;

        if (!encoded)
                return -ENOMEM;
        r = json_dump_callback(encoded, on_octets, text, JSON_ENCODE_ANY);
        json_decref(encoded);
        return r < 0 ? -ENOMEM : 0;
}

/* `begin` is a comma (not for the first member), and a line end with the indentation. NULL is null. */
static int append_text(Buffer *text, const char *begin, const char *name, const char *value) {
        size_t size = value ? strlen(value) : 0;
        int r = buffer_printf(text, "%s\"%s\": ", begin, name);

        if (r < 0)
                return r;
        if (!value)
                return buffer_append_string(text, "null");
        if (!stands_for_itself(value, size))
                return append_encoded(text, value);
        r = buffer_append(text, "\"", 1);
        if (r >= 0)
                r = buffer_append(text, value, size);
        return r < 0 ? r : buffer_append(text, "\"", 1);
}

static int append_number(Buffer *text, const char *begin, const char *name, uint64_t number) {
        return buffer_printf(text, "%s\"%s\": %llu", begin, name,
                        (unsigned long long) MIN_OF(number, (uint64_t) INT64_MAX));
}

/* A time or a code, of which 0 is none. */
static int append_if_any(Buffer *text, const char *begin, const char *name, uint64_t number) {
        return number > 0 ? append_number(text, begin, name, number)
                          : append_text(text, begin, name, NULL);
}

static int append_recipient(Buffer *text, const EnvelopeRecipient *recipient) {
        static const char *const statuses[_RECIPIENT_STATUS_MAX] = {
                        "waiting", "deferred", "refused"};
        int r;

        r = append_text(text, RECIPIENT "{" RECIPIENT_MEMBER, "address", recipient->address);
        if (r >= 0)
                r = buffer_append_string(
                                text, recipient->local ? "," RECIPIENT_MEMBER "\"local\": true"
                                                       : "," RECIPIENT_MEMBER "\"local\": false");
        if (r >= 0)
                r = append_text(text, "," RECIPIENT_MEMBER, "status", statuses[recipient->status]);
        if (r >= 0)
                r = append_if_any(text, "," RECIPIENT_MEMBER, "code", recipient->code);
        if (r >= 0)
                r = append_text(text, "," RECIPIENT_MEMBER, "reply", recipient->reply);
        return r < 0 ? r : buffer_append_string(text, RECIPIENT "}");
}

static int append_recipients(Buffer *text, const Envelope *envelope) {
        int r = buffer_append_string(text, "," MEMBER "\"recipients\": [");

        for (size_t i = 0; r >= 0 && i < envelope->n_recipients; i++) {
                if (i > 0)
                        r = buffer_append(text, ",", 1);
                if (r >= 0)
                        r = append_recipient(text, &envelope->recipients[i]);
        }
        return r < 0 ? r
                     : buffer_append_string(text, envelope->n_recipients > 0 ? MEMBER "]" : "]");
}

static int append_envelope(Buffer *text, const Envelope *envelope) {
        unsigned code;
        const char *reason = envelope_reason(envelope, &code);
        int r;

        r = append_text(text, "," MEMBER, "from", envelope->from);
        if (r >= 0)
                r = append_recipients(text, envelope);
        if (r >= 0)
                r = append_text(text, "," MEMBER, "client", envelope->client);
        if (r >= 0)
                r = append_number(text, "," MEMBER, "attempts", envelope->attempts);
        if (r >= 0)
                r = append_if_any(text, "," MEMBER, "first_attempt", envelope->first_attempt_sec);
        if (r >= 0)
                r = append_if_any(text, "," MEMBER, "next_attempt", envelope->next_attempt_sec);
        if (r >= 0)
                r = append_text(text, "," MEMBER, "last_host", envelope->last_host);
        if (r >= 0)
                r = append_text(text, "," MEMBER, "last_reply", envelope->last_reply);
        if (r >= 0)
                r = append_text(text, "," MEMBER, "reason", reason);
        return r < 0 ? r : append_if_any(text, "," MEMBER, "reason_code", code);
}

int list_json_item(const ListItem *item, Buffer *text) {
        int r;

        r = append_text(text, "{" MEMBER, "id", item->id);
        if (r >= 0)
                r = append_text(text, "," MEMBER, "state", spool_state_name(item->state));
        if (r >= 0)
                r = append_if_any(text, "," MEMBER, "arrived", item->arrived_sec);
        if (r >= 0)
                r = append_number(text, "," MEMBER, "size", item->size);
        if (r >= 0)
                r = item->envelope ? append_envelope(text, item->envelope)
                                   : append_text(text, "," MEMBER, "error", item->why);
        return r < 0 ? r : buffer_append_string(text, "\n}");
}
