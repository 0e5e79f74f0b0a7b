/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Keys on elliptic curves, because they take a millisecond to make. */

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "tls-fixture.h"

#define DAY (24 * 60 * 60)

static char directory[] = "/tmp/test-tls-XXXXXX";

#define check(call) cr_assert_geq((call), 0, "%s", #call)

void tls_set_up(void) {
        umask(022);
        cr_assert_not_null(mkdtemp(directory));
}

static void remove_all(const char *path) {
        DIR *dir = opendir(path);
        struct dirent *entry;

        while (dir && (entry = readdir(dir))) {
                if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
                        continue;
                if (unlinkat(dirfd(dir), entry->d_name, 0) < 0) {
                        char below[4096];

                        (void) snprintf(below, sizeof(below), "%s/%s", path, entry->d_name);
                        remove_all(below);
                }
        }
        if (dir)
                (void) closedir(dir);
        (void) rmdir(path);
}

void tls_tear_down(void) {
        remove_all(directory);
}

const char *in_dir(const char *name) {
        static char paths[16][512];
        static unsigned n;
        char *path = paths[n++ % ELEMENTSOF(paths)];

        (void) snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
        return path;
}

static const char *with(const char *name, const char *suffix) {
        static char names[4][256];
        static unsigned n;
        char *text = names[n++ % ELEMENTSOF(names)];

        (void) snprintf(text, sizeof(names[0]), "%s%s", name, suffix);
        return text;
}

void write_file(const char *name, const void *data, size_t size, mode_t mode) {
        int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, data, size), (ssize_t) size);
        cr_assert_eq(fchmod(fd, mode), 0);
        (void) close(fd);
}

static gnutls_datum_t read_file(const char *name) {
        gnutls_datum_t datum = {};

        cr_assert_eq(gnutls_load_file(in_dir(name), &datum), 0, "%s", name);
        return datum;
}

void append_file(const char *to, const char *from) {
        gnutls_datum_t datum = read_file(from);
        int fd = open(in_dir(to), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

        cr_assert_geq(fd, 0);
        cr_assert_eq(write(fd, datum.data, datum.size), (ssize_t) datum.size);
        (void) close(fd);
        gnutls_free(datum.data);
}

void rename_file(const char *from, const char *to) {
        cr_assert_eq(rename(in_dir(from), in_dir(to)), 0);
}

void remove_file(const char *name) {
        cr_assert_eq(unlink(in_dir(name)), 0);
}

/* ---- making certificates ---- */

static gnutls_x509_privkey_t new_key(bool rsa) {
        gnutls_x509_privkey_t key;

        check(gnutls_x509_privkey_init(&key));
        if (rsa)
                check(gnutls_x509_privkey_generate(key, GNUTLS_PK_RSA, 2048, 0));
        else
                check(gnutls_x509_privkey_generate(key, GNUTLS_PK_ECDSA,
                                GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
        return key;
}

static gnutls_x509_privkey_t load_key(const char *file) {
        gnutls_datum_t datum = read_file(with(file, ".key"));
        gnutls_x509_privkey_t key;

        check(gnutls_x509_privkey_init(&key));
        check(gnutls_x509_privkey_import(key, &datum, GNUTLS_X509_FMT_PEM));
        gnutls_free(datum.data);
        return key;
}

static gnutls_x509_crt_t load_certificate(const char *file) {
        gnutls_datum_t datum = read_file(with(file, ".pem"));
        gnutls_x509_crt_t certificate;

        check(gnutls_x509_crt_init(&certificate));
        check(gnutls_x509_crt_import(certificate, &datum, GNUTLS_X509_FMT_PEM));
        gnutls_free(datum.data);
        return certificate;
}

static void fill_in(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key, const TestCertificate *spec) {
        static const char padding[1000];
        const char *name = spec->name ? spec->name : spec->file;
        bool usual = spec->from == 0 && spec->until == 0;
        unsigned char serial[4] = {
                        1, 0, (unsigned char) (spec->serial >> 8), (unsigned char) spec->serial};
        unsigned char id[32];
        size_t size = sizeof(id);

        check(gnutls_x509_crt_set_version(crt, 3));
        check(gnutls_x509_crt_set_serial(crt, serial, sizeof(serial)));
        check(gnutls_x509_crt_set_dn_by_oid(
                        crt, GNUTLS_OID_X520_COMMON_NAME, 0, name, (unsigned) strlen(name)));
        check(gnutls_x509_crt_set_activation_time(
                        crt, time(NULL) + (usual ? -1 : spec->from) * DAY));
        check(gnutls_x509_crt_set_expiration_time(
                        crt, time(NULL) + (usual ? 30 : spec->until) * DAY));
        check(gnutls_x509_crt_set_key(crt, key));
        check(gnutls_x509_crt_get_key_id(crt, 0, id, &size));
        check(gnutls_x509_crt_set_subject_key_id(crt, id, size));
        check(gnutls_x509_crt_set_basic_constraints(crt, spec->authority, -1));
        for (size_t i = 0; i < ELEMENTSOF(spec->names) && spec->names[i]; i++)
                check(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_DNSNAME, spec->names[i],
                                (unsigned) strlen(spec->names[i]), GNUTLS_FSAN_APPEND));
        if (spec->ip) {
                struct in_addr address;

                cr_assert_eq(inet_pton(AF_INET, spec->ip, &address), 1);
                check(gnutls_x509_crt_set_subject_alt_name(crt, GNUTLS_SAN_IPADDRESS, &address,
                                sizeof(address), GNUTLS_FSAN_APPEND));
        }
        if (spec->padding)
                check(gnutls_x509_crt_set_extension_by_oid(
                                crt, "1.3.6.1.4.1.99999.1", padding, (unsigned) spec->padding, 0));
        if (spec->purpose)
                check(gnutls_x509_crt_set_key_purpose_oid(crt, spec->purpose, 0));
        if (spec->authority)
                check(gnutls_x509_crt_set_key_usage(
                                crt, GNUTLS_KEY_KEY_CERT_SIGN | GNUTLS_KEY_CRL_SIGN));
}

static void write_datum(const char *name, gnutls_datum_t *datum, mode_t mode) {
        write_file(name, datum->data, datum->size, mode);
        gnutls_free(datum->data);
}

void make_certificate(const TestCertificate *spec) {
        gnutls_x509_privkey_t key = new_key(spec->rsa), issuer_key = NULL;
        gnutls_x509_crt_t crt, issuer = NULL;
        gnutls_datum_t datum = {};

        check(gnutls_x509_crt_init(&crt));
        fill_in(crt, key, spec);
        if (spec->issuer) {
                issuer = load_certificate(spec->issuer);
                issuer_key = load_key(spec->issuer);
        }
        check(gnutls_x509_crt_sign2(crt, issuer ? issuer : crt, issuer_key ? issuer_key : key,
                        GNUTLS_DIG_SHA256, 0));

        check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_PEM, &datum));
        write_datum(with(spec->file, ".pem"), &datum, 0644);
        check(gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &datum));
        write_datum(with(spec->file, ".key"), &datum, 0600);
        write_file(with(spec->file, ".both"), "", 0, 0600);
        append_file(with(spec->file, ".both"), with(spec->file, ".key"));
        append_file(with(spec->file, ".both"), with(spec->file, ".pem"));

        gnutls_x509_crt_deinit(crt);
        gnutls_x509_privkey_deinit(key);
        if (issuer)
                gnutls_x509_crt_deinit(issuer);
        if (issuer_key)
                gnutls_x509_privkey_deinit(issuer_key);
}

void make_crl(const char *file, const char *issuer, unsigned serial, int until) {
        gnutls_x509_crt_t crt = load_certificate(issuer);
        gnutls_x509_privkey_t key = load_key(issuer);
        unsigned char octets[4] = {1, 0, (unsigned char) (serial >> 8), (unsigned char) serial};
        gnutls_x509_crl_t crl;
        gnutls_datum_t datum = {};

        check(gnutls_x509_crl_init(&crl));
        check(gnutls_x509_crl_set_version(crl, 2));
        check(gnutls_x509_crl_set_this_update(crl, time(NULL) - 30 * DAY));
        check(gnutls_x509_crl_set_next_update(crl, time(NULL) + until * DAY));
        check(gnutls_x509_crl_set_number(crl, "\1", 1));
        check(gnutls_x509_crl_set_crt_serial(crl, octets, sizeof(octets), time(NULL) - DAY));
        check(gnutls_x509_crl_sign2(crl, crt, key, GNUTLS_DIG_SHA256, 0));
        check(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &datum));
        write_datum("crl.pem", &datum, 0644);
        append_file(file, "crl.pem");
        gnutls_x509_crl_deinit(crl);
        gnutls_x509_crt_deinit(crt);
        gnutls_x509_privkey_deinit(key);
}

void make_usual(void) {
        make_certificate(&(TestCertificate){
                        .file = "ca", .name = "Test Authority", .authority = true});
        make_certificate(&(TestCertificate){
                        .file = "other", .name = "Other Authority", .authority = true});
        make_certificate(&(TestCertificate){
                        .file = "good",
                        .name = "cn.test",
                        .names = {"a.test", "*.wild.test"},
                        .ip = "192.0.2.1",
                        .issuer = "ca",
                        .serial = 7,
        });
}

/* ---- credentials ---- */

void on_complaint(TlsItem item, bool fatal, const char *text, void *userdata) {
        Complaints *complaints = userdata;

        if (fatal)
                complaints->n_fatal++;
        else
                complaints->n_warnings++;
        complaints->item = item;
        (void) snprintf(complaints->last, sizeof(complaints->last), "%s", text);
}

static TlsCredentials *make_credentials(TlsConfig *config, TlsRole role, const char *words) {
        TlsCredentials *credentials = NULL;
        Complaints complaints = {};
        const char *list[16];
        char copy[512];

        (void) snprintf(copy, sizeof(copy), "%s", words ? words : "");
        for (char *rest = copy, *word; (word = strsep(&rest, " "));)
                if (*word)
                        list[config->n_words++] = word;
        config->words = list;
        cr_assert_eq(tls_credentials_new(config, role, on_complaint, &complaints, &credentials), 0,
                        "%s", complaints.last);
        return credentials;
}

static const char *path_of(const char *name) {
        return name && name[0] != '<' ? in_dir(name) : name;
}

TlsCredentials *server_credentials(const char *certificate, const char *verify, const char *words) {
        TlsConfig config = {.certificate = path_of(certificate), .verify = path_of(verify)};

        return make_credentials(&config, TLS_SERVER, words);
}

TlsCredentials *client_credentials(const char *certificate, const char *verify,
                const char *verify_name, const char *words) {
        TlsConfig config = {
                        .certificate = path_of(certificate),
                        .verify = path_of(verify),
                        .verify_name = verify_name,
        };

        return make_credentials(&config, TLS_CLIENT, words);
}

/* ---- connections ---- */

static void on_event(Connection *connection, ConnectionEvent event, int error, void *userdata) {
        End *end = userdata;
        Buffer *input = connection_input(connection);

        cr_assert_eq(connection, end->connection);
        end->n_events[event]++;
        if (event == CONNECTION_ERROR) {
                const char *why = connection_tls_error(connection);

                end->error = error;
                end->why = why ? strdup(why) : NULL;
        }
        end->n_input_max = MAX_OF(end->n_input_max, buffer_size(input));
        if (end->take) {
                cr_assert_eq(buffer_append(&end->got, buffer_data(input), buffer_size(input)), 0);
                buffer_consume(input, buffer_size(input));
        }
        if (end->free_at == (int) event)
                end->connection = connection_free(connection);
}

static void end_init(Pair *pair, End *end, int fd) {
        *end = (End){.pair = pair, .take = true, .free_at = -1};
        cr_assert_eq(connection_new(pair->event, fd, on_event, end, &end->connection), 0);
        connection_read(end->connection, true, SIZE_MAX);
}

void end_adopt(Pair *pair, End *end, int fd) {
        end_init(pair, end, fd);
}

static void end_done(End *end) {
        end->connection = connection_free(end->connection);
        buffer_done(&end->got);
        free(end->why);
        *end = (End){};
}

static void make_sockets(Pair *pair, int fds[2]) {
        *pair = (Pair){};
        cr_assert_eq(sd_event_new(&pair->event), 0);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
}

void pair_init(Pair *pair, int buffer) {
        int fds[2];

        make_sockets(pair, fds);
        for (size_t i = 0; i < 2 && buffer > 0; i++)
                cr_assert_eq(setsockopt(fds[i], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)), 0);
        end_init(pair, &pair->server, fds[0]);
        end_init(pair, &pair->client, fds[1]);
}

int pair_init_half(Pair *pair, End **ret_end, bool server) {
        int fds[2];

        make_sockets(pair, fds);
        *ret_end = server ? &pair->server : &pair->client;
        end_init(pair, *ret_end, fds[0]);
        return fds[1];
}

void pair_init_between(Pair *pair, int ret_fds[2]) {
        int server[2], client[2];

        make_sockets(pair, server);
        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, client), 0);
        end_init(pair, &pair->server, server[0]);
        end_init(pair, &pair->client, client[0]);
        ret_fds[0] = server[1];
        ret_fds[1] = client[1];
}

void pair_done(Pair *pair) {
        end_done(&pair->server);
        end_done(&pair->client);
        pair->event = sd_event_unref(pair->event);
}

void pair_start(Pair *pair, TlsCredentials *server, TlsCredentials *client, const char *host) {
        cr_assert_eq(connection_start_tls(pair->server.connection, server, NULL), 0);
        cr_assert_eq(connection_start_tls(pair->client.connection, client, host), 0);
        (void) tls_credentials_unref(server);
        (void) tls_credentials_unref(client);
}

bool pair_step(Pair *pair, uint64_t end_usec) {
        if (clock_monotonic() >= end_usec)
                return false;
        cr_assert_geq(sd_event_run(pair->event, USEC_PER_SEC / 10), 0);
        return true;
}

unsigned settle(Pair *pair) {
        unsigned n = 0;

        while (n < 200 && sd_event_run(pair->event, 0) > 0)
                n++;
        cr_assert_lt(n, 200, "the loop spins");
        return n;
}

bool is_settled(const Pair *pair) {
        return (pair->server.n_events[CONNECTION_SECURED] > 0 &&
                               pair->client.n_events[CONNECTION_SECURED] > 0) ||
               (pair->server.n_events[CONNECTION_ERROR] > 0 &&
                               pair->client.n_events[CONNECTION_ERROR] > 0);
}

void expect_passes(End *from, End *to, const char *text) {
        size_t before = buffer_size(&to->got), size = strlen(text);

        cr_assert_eq(buffer_append_string(connection_output(from->connection), text), 0);
        cr_assert_eq(connection_flush(from->connection), 1);
        cr_assert(wait_until(from->pair, buffer_size(&to->got) >= before + size), "%s",
                        to->why ? to->why : "nothing came");
        cr_assert_eq(buffer_size(&to->got), before + size);
        cr_assert_eq(memcmp(buffer_data(&to->got) + before, text, size), 0);
}
