/* One answer over farseek.h:  answer MODEL "QUESTION"
 * Build against an installed Farseek:  cc answer.c $(pkg-config --cflags --libs farseek) -o answer */
#include <farseek.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool print_text(void *ud, const char *text, size_t n_bytes)
{
    (void)ud;
    fwrite(text, 1, n_bytes, stdout);
    fflush(stdout);
    return true;
}

int main(int argc, char **argv)
{
    fs_model *model = NULL;
    fs_session *session = NULL;
    int32_t *prompt = NULL;
    size_t n_prompt = 0;
    fs_error err;
    fs_status rc;

    if (argc != 3) {
        fprintf(stderr, "usage: answer MODEL QUESTION\n");
        return 2;
    }
    fs_chat_message question = { "user", argv[2], strlen(argv[2]) };
    fs_sampling greedy = fs_sampling_default();

    rc = fs_model_open(argv[1], NULL, &model, &err);
    if (!rc)
        rc = fs_session_new(model, 2048, &session, &err);
    if (!rc) /* once for the number of tokens, once for the tokens */
        rc = fs_chat_tokens(model, &question, 1, true, NULL, 0, &n_prompt, &err);
    if (!rc && !(prompt = malloc(n_prompt * sizeof *prompt)))
        rc = err.code = FS_ERR_MEMORY;
    if (!rc)
        rc = fs_chat_tokens(model, &question, 1, true, prompt, n_prompt, &n_prompt, &err);
    if (!rc)
        rc = fs_generate(session, prompt, n_prompt, &greedy, 200, NULL, print_text, NULL, NULL, &err);
    puts("");
    if (rc)
        fprintf(stderr, "answer: %s\n", rc == FS_ERR_MEMORY ? "out of memory" : err.message);
    free(prompt);
    fs_session_free(session);
    fs_model_close(model);
    return rc ? 1 : 0;
}
