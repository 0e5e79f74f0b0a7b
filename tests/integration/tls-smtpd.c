/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The server of the TLS and AUTH tests. */

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buffer.h"
#include "tls-smtpd.h"

static char *expand(const TestSmtpd *smtpd, const char *text) {
        Buffer buffer = {};

        for (const char *p = text ? text : ""; *p; p++)
                if (strncmp(p, "%D", 2) == 0) {
                        cr_assert_geq(buffer_append_string(&buffer, smtpd->directory), 0);
                        p++;
                } else
                        cr_assert_geq(buffer_append(&buffer, p, 1), 0);
        return buffer_take_string(&buffer);
}

void secure_configure(const TestSmtpd *smtpd, const char *options) {
        _cleanup_(freep) char *expanded = expand(smtpd, options);

        smtpd_configure((TestSmtpd *) smtpd, expanded);
}

void secure_write(const TestSmtpd *smtpd, const char *name, const char *text) {
        _cleanup_(freep) char *path = harness_text("%s/%s", smtpd->directory, name),
                              *new_path = harness_text("%s/.new", smtpd->directory);

        harness_write(new_path, text);
        cr_assert_eq(chmod(new_path, 0600), 0);
        cr_assert_eq(rename(new_path, path), 0);
}

void secure_prepare(TestSmtpd *smtpd, const TestSmtpdSetup *setup) {
        smtpd_prepare(smtpd, setup);
        tls_files_make(smtpd->directory);
        secure_write(smtpd, "secrets", SECRETS);
        secure_configure(smtpd, setup->options);
}

void secure_start(TestSmtpd *smtpd, const TestSmtpdSetup *setup) {
        secure_prepare(smtpd, setup);
        smtpd_launch(smtpd);
}

static bool has_line_with(const char *text, const char *first, const char *second) {
        for (const char *at = text; (at = strstr(at, first)); at++) {
                _cleanup_(freep) char *line = strndup(at, strcspn(at, "\n"));

                if (strstr(line, second))
                        return true;
        }
        return false;
}

void expect_wrong_start(
                TestSmtpd *smtpd, const char *options, const char *complaint, const char *remedy) {
        _cleanup_(freep) char *first = expand(smtpd, complaint), *second = expand(smtpd, remedy),
                              *log = NULL;

        secure_configure(smtpd, options);
        smtpd_launch(smtpd);
        cr_assert(process_wait(&smtpd->process, HARNESS_DEADLINE_SECONDS), "it runs: %s", options);
        log = process_errors(&smtpd->process);
        cr_expect_eq(smtpd->process.status, 1, "%s: status %d", options, smtpd->process.status);
        cr_expect(has_line_with(log, first, second), "%s: %s", options, log);
        process_done(&smtpd->process);
        smtpd->process = (TestProcess){};
}

int starttls_connect(const TestSmtpd *smtpd) {
        int fd = connect_port(smtpd->port);

        expect_talk_fd(fd, HELLO "C: STARTTLS\nS: 220\n");
        return fd;
}

void expect_tls_talk_line(const TestSmtpd *smtpd, TlsStart start, const TlsPeerSetup *setup,
                const char *script, const char *file, int line) {
        int fd = start == TLS_START_COMMAND ? starttls_connect(smtpd)
                                            : connect_port(smtpd->smtps_port);
        TlsPeer peer;

        cr_assert(tls_peer_begin(&peer, fd, setup), "%s:%d: %s", file, line,
                        gnutls_strerror(peer.error));
        expect_talk_fd_line(peer.fd, script, file, line);
        tls_peer_done(&peer);
}

char *stored(const TestSmtpd *smtpd, const char *suffix) {
        _cleanup_(freep) char *path = NULL;
        char *text;

        cr_assert_eq(harness_count(smtpd->spool, suffix), 1);
        path = harness_find(smtpd->spool, suffix);
        text = harness_read(path);
        cr_assert(text);
        return text;
}
