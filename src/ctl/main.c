/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* emailrelayctl: the command line. Options may stand before and behind the verb; which spool and which sockets are meant comes
 * from the same option files that the programs read. */

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "ctl/ctl.h"

static const struct {
        const char *name;
        int (*run)(const Ctl *ctl);
        int n_arguments_max;
} verbs[] = {
                {"forward", ctl_forward, INT_MAX},
                {"list", ctl_list, 0},
                {"reload", ctl_reload, 16},
                {"status", ctl_status, 0},
};

static const char USAGE[] =
                "emailrelayctl [OPTION…] COMMAND [ARGUMENT…]\n"
                "\n"
                "Commands:\n"
                "  list                        the messages in the spool, oldest first\n"
                "  status                      what the programs do, and the spool in numbers\n"
                "  reload [smtpd|popd|forward]… running programs read their configuration anew\n"
                "  forward [ID]…               look for mail to forward now; forward these messages, or --all,\n"
                "                              whatever their schedule says\n"
                "\n"
                "Exit status: 0 done, 1 failed, 2 wrong usage, 3 the program does not run.";

int ctl_fail(int status, const char *format, ...) {
        va_list arguments;

        (void) fflush(stdout); /* in the order it happened, where both go to one place */
        (void) fprintf(stderr, "emailrelayctl: ");
        va_start(arguments, format);
        (void) vfprintf(stderr, format, arguments);
        va_end(arguments);
        (void) fprintf(stderr, "\n");
        return status;
}

int ctl_flush(int status) {
        if (fflush(stdout) != 0 || ferror(stdout))
                return ctl_fail(status == CTL_OK ? CTL_FAILED : status,
                                "cannot write to standard output");
        return status;
}

/* ---- the command line ---- */

static bool takes_next_word(const char *word) {
        int option;

        if (word[1] == '-')
                option = option_find(word + 2, strlen(word + 2));
        else
                option = word[2] == '\0' ? option_find_letter(word[1]) : -1;
        return option >= 0 && option_table[option].type != OPTION_TYPE_FLAG &&
               option_table[option].type != OPTION_TYPE_OPTIONAL;
}

/* Copies the options, each with the word that is its value, or what is left without them. */
static int copy_words(int argc, char **argv, bool options, char **to) {
        bool ended = false;
        int n = 0;

        for (int i = 1; i < argc; i++) {
                bool is_option = !ended && argv[i][0] == '-' && argv[i][1] != '\0';
                int used = 1;

                if (is_option && strcmp(argv[i], "--") == 0) {
                        ended = true;
                        continue;
                }
                if (is_option && takes_next_word(argv[i]) && i + 1 < argc)
                        used = 2;
                for (int k = 0; is_option == options && k < used; k++)
                        to[n++] = argv[i + k];
                i += used - 1;
        }
        return n;
}

/* The words of the command line, options apart from the verb and its arguments; NULL ends both. */
typedef struct Words {
        char **options; /* the program's name is the first */
        char **others;
        int n_options, n_others;
} Words;

static void words_done(Words *words) {
        free(words->options);
        free(words->others);
}

static int words_sort(int argc, char **argv, Words *words) {
        static char name[] = "emailrelayctl";

        words->options = calloc((size_t) argc + 2, sizeof(char *));
        words->others = calloc((size_t) argc + 1, sizeof(char *));
        if (!words->options || !words->others)
                return -ENOMEM;
        words->options[0] = name;
        words->n_options = 1 + copy_words(argc, argv, true, words->options + 1);
        words->n_others = copy_words(argc, argv, false, words->others);
        return 0;
}

void ctl_print_errors(const Config *config) {
        const char *errors = config_errors(config);

        while (*errors) {
                size_t size = strcspn(errors, "\n");

                (void) ctl_fail(CTL_FAILED, "%.*s", (int) size, errors);
                errors += size + (errors[size] == '\n');
        }
}

static bool is_wrong_usage(const Config *config) {
        static const char mark[] = "command line: ";

        for (const char *p = config_errors(config); p; p = strchr(p, '\n')) {
                p += *p == '\n';
                if (strncmp(p, mark, strlen(mark)) == 0)
                        return true;
        }
        return false;
}

/* An error in an option file must not keep anyone from looking at the queue. CTL_OK, or CTL_USAGE when the command line is
 * to blame. */
static int report_errors(const Config *config, int n_words, char **words) {
        bool usage = is_wrong_usage(config);

        if (usage || n_words == 0 ||
                        strcmp(words[0], "reload") != 0) /* it has its own turn to say so */
                ctl_print_errors(config);
        return usage ? CTL_USAGE : CTL_OK;
}

static int show_help(void) {
        _cleanup_(buffer_done) Buffer text = {};

        if (config_help(OPTION_USER_CTL, USAGE, &text) < 0)
                return ctl_fail(CTL_FAILED, "out of memory");
        (void) fwrite(buffer_data(&text), 1, buffer_size(&text), stdout); /* errors: ctl_flush() */
        return ctl_flush(CTL_OK);
}

static int unknown_verb(const char *verb) {
        _cleanup_(freep) char *shown = show_text(verb);
        const char *names[ELEMENTSOF(verbs)], *nearest;

        for (size_t i = 0; i < ELEMENTSOF(verbs); i++)
                names[i] = verbs[i].name;
        nearest = text_nearest(verb, names, ELEMENTSOF(verbs));
        if (nearest)
                return ctl_fail(CTL_USAGE, "there is no command \"%s\": did you mean \"%s\"?",
                                shown ? shown : "", nearest);
        return ctl_fail(CTL_USAGE, "there is no command \"%s\": --help lists them",
                        shown ? shown : "");
}

static int run_verb(Ctl *ctl, int n_words, char **words) {
        if (n_words == 0)
                return ctl_fail(CTL_USAGE, "a command is missing: --help lists them");
        ctl->spool_dir = config_string(ctl->config, OPTION_SPOOL_DIR);
        ctl->runtime_dir = config_string(ctl->config, OPTION_RUNTIME_DIR);
        ctl->json = config_flag(ctl->config, OPTION_JSON);
        ctl->all = config_flag(ctl->config, OPTION_ALL);
        ctl->n_arguments = n_words - 1;
        ctl->arguments = words + 1;
        for (size_t i = 0; i < ELEMENTSOF(verbs); i++) {
                if (strcmp(verbs[i].name, words[0]) != 0)
                        continue;
                if (ctl->n_arguments > verbs[i].n_arguments_max)
                        return ctl_fail(CTL_USAGE, "%s: too many arguments", words[0]);
                if (ctl->all && verbs[i].run != ctl_forward)
                        return ctl_fail(CTL_USAGE, "%s: --all is for forward", words[0]);
                return verbs[i].run(ctl);
        }
        return unknown_verb(words[0]);
}

int main(int argc, char **argv) {
        _cleanup_(config_freep) Config *config = NULL;
        _cleanup_(words_done) Words words = {};
        Ctl ctl = {};
        int first, r;

        if (words_sort(argc, argv, &words) < 0)
                return ctl_fail(CTL_FAILED, "out of memory");
        r = config_load(OPTION_USER_CTL, words.n_options, words.options, &first, &config);
        if (!config)
                return ctl_fail(CTL_FAILED, "out of memory");
        ctl.config = config;
        if (r < 0 && report_errors(config, words.n_others, words.others) != CTL_OK)
                return CTL_USAGE;
        if (config_flag(config, OPTION_HELP))
                return show_help();
        if (config_flag(config, OPTION_VERSION)) {
                (void) puts("emailrelayctl " PACKAGE_VERSION);
                return ctl_flush(CTL_OK);
        }
        return run_verb(&ctl, words.n_others, words.others);
}
