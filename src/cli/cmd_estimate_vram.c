/* cmd_estimate_vram.c — `backprop estimate-vram`: a line for each model and size of card.
 * Owns the table; every number in it is of bp_estimate_vram_json.
 */
#include "cli/cli.h"

#include <string.h>

static double number(const Json *json, const char *key)
{
    return json_double(json_get(json, key), 0);
}

static void print_card(const Json *card)
{
    printf("  %5.0f GB  ", number(card, "vram_gb"));
    if (!json_bool(json_get(card, "fits"), false)) {
        term_paint(stdout, COLOUR_RED, "too small");
        printf(": needs %.1f GiB (weights %.1f)\n", number(card, "total_gb"),
               number(card, "model_weights_gb"));
        return;
    }
    printf("batch %lld  %5.1f GiB = weights %.1f + parameters %.1f + activations %.1f + context "
           "%.1f; activations %s\n",
           (long long)json_int(json_get(card, "batch_size"), 0), number(card, "total_gb"),
           number(card, "model_weights_gb"), number(card, "parameters_gb"),
           number(card, "activations_gb"), number(card, "context_gb"),
           json_text(json_get(card, "activations")));
}

static void print_model(const Json *model)
{
    const long long r = json_int(json_get(model, "lora_r"), 0);
    printf("%s  %.2f B weights, %lld tokens a sequence, ", json_text(json_get(model, "model")),
           number(model, "param_count_billions"),
           (long long)json_int(json_get(model, "max_seq_length"), 0));
    if (r > 0)
        printf("adapter of rank %lld\n", r);
    else
        printf("every weight\n");
    const Json *cards = json_get(model, "cards");
    for (size_t i = 0; i < json_len(cards); i++)
        print_card(json_at(cards, i));
}

int cmd_estimate_vram(bp_trainer *t, const char *const *positionals, int n)
{
    const char *text = bp_estimate_vram_json(t, n > 0 ? positionals[0] : NULL);
    if (text == NULL)
        return 0;
    if (flag_is_set(t, "json")) {
        puts(text);
        return 0;
    }
    Json *r = json_parse((Str){text, strlen(text)}, "estimate", ERR_INTERNAL_ERROR, NULL);
    const Json *models = json_get(r, "models");
    for (size_t i = 0; i < json_len(models); i++)
        print_model(json_at(models, i));
    json_free(r);
    return 0;
}
