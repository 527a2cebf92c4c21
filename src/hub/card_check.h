/* The members of a card's YAML held to what huggingface.co asks of them. */
#ifndef FS_HUB_CARD_CHECK_H
#define FS_HUB_CARD_CHECK_H

#include "hub/internal.h"

#include "base/json.h"

/* One thing that is wrong, or a warning. */
typedef void fs_hub_card_fn(void *ud, bool error, const char *message);
/* card: what the YAML says; type: "model", "dataset" or "space". At most some dozens of messages. */
void fs_hub_card_check(struct json_object *card, const char *type, fs_hub_card_fn *fn, void *ud);

#endif
