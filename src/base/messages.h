/* SPDX-License-Identifier: LGPL-2.1-or-later */
#pragma once

/* The MESSAGE_ID of each event that an administrator acts on or counts. Cause and remedy stand in
 * units/emailrelay.catalog under the same ids. */

#define LOG_MESSAGE_ACCEPTED        "e1a0abeee3ef40afabe468795b549599"
#define LOG_MESSAGE_DELIVERED       "d56cf9834227457e8e0c840d829e0c50"
#define LOG_MESSAGE_DEFERRED        "1f4f8afb249e47f8823d894602533ee1"
#define LOG_MESSAGE_FAILED          "bfb8eb2babef48b480db0d91ac3c31c4"
#define LOG_MESSAGE_REJECTED        "f538142f420a4028bea969dc7cb9a6e0"
#define LOG_MESSAGE_CLIENT_REFUSED  "1b066b607927494a9cfb4f90b55af2f7"
#define LOG_MESSAGE_LIMIT           "c62337552af94259821c561284ed3709"
#define LOG_MESSAGE_SPOOL_TROUBLE   "25cbaa012e7b438094a08da32153ea1f"
#define LOG_MESSAGE_SPOOL_RECOVERED "a05f335d82ac401080ea754f974e6536"
#define LOG_MESSAGE_NEXT_HOP_DOWN   "38c13ea9277e43c4885be2fd871712a3"
#define LOG_MESSAGE_BAD_ENVELOPE    "ce88eb0f204c4090a6efee9fde370b65"
#define LOG_MESSAGE_CONFIG_REFUSED  "5723f52ad4a94e4b916da9c130622d9f"
#define LOG_MESSAGE_CONTENT_MISSING "338232c705ab4bafbc37556d642f93e7"
#define LOG_MESSAGE_PAM_TROUBLE     "48d37d736e614f0780754a5fa2f2b949"
