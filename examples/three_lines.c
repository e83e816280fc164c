/* three_lines.c — train, export, close: the whole library from C.
 *
 *     cc three_lines.c -lbackprop -o three_lines && ./three_lines MODEL DATA OUTPUT
 */
#include <backprop.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    if (argc != 4) {
        fprintf(stderr, "usage: three_lines MODEL DATA OUTPUT\n");
        return 64;
    }
    bp_trainer *t = bp_open(argv[1], &(bp_open_options){.output = argv[3]});
    bp_set(t, "max-seq-length", "64");
    bp_train(t, argv[2], &(bp_train_options){.steps = 3, .lora_r = 4});
    bp_export(t, "gguf", &(bp_export_options){.quant = "q8_0"});
    const char *answer = bp_generate(t, "Hello");
    printf("%s\n", answer != NULL ? answer : "(no answer)");
    return bp_close(t);
}
