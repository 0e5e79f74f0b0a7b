/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Who gives way when all sessions are taken and clients wait: the one that has been idle longest. Idle sessions stand in a list
 * in the order of their last input, which each step of a session keeps for the price of two pointers, so that
 * nobody ever looks for the longest idle one. A session that says nothing from the beginning is as idle as one that says
 * nothing any more. */

#include "base/clock.h"
#include "smtpd/session.h"

static void leave(Session *session) {
        if (!session->idle_link)
                return;
        *session->idle_link = session->idle_next;
        if (session->idle_next)
                session->idle_next->idle_link = session->idle_link;
        else
                session->smtpd->idle_last = session->idle_link;
        session->idle_link = NULL;
}

void idle_update(Session *session, bool idle) {
        Smtpd *smtpd = session->smtpd;

        if (idle && session->idle_link && session->idle_since == session->last_input)
                return;
        leave(session);
        if (!idle)
                return;
        session->idle_since = session->last_input;
        session->idle_next = NULL;
        session->idle_link = smtpd->idle_last;
        *smtpd->idle_last = session;
        smtpd->idle_last = &session->idle_next;
}

uint64_t idle_due(const Smtpd *smtpd) {
        uint64_t since = smtpd->idle_first ? smtpd->idle_first->idle_since : clock_monotonic();
        uint64_t timeout = smtpd->settings->busy_idle_timeout;

        return timeout > 0 ? since + timeout : 0;
}

bool idle_give_way(Smtpd *smtpd) {
        uint64_t due = idle_due(smtpd);

        if (!smtpd->idle_first || due == 0 || due > clock_monotonic())
                return false;
        session_give_way(smtpd->idle_first);
        return true;
}
