#include "unit.h"

#include "crypto/minisign.h"

#include <string.h>

/* Made by the program minisign 0.11: `minisign -G -W` and `-G` with the password "pass"; "test\n" signed by the first, by
 * `minisign -S -t 'of a test'` and `minisign -S -l -t old`. */
static const char public_key[] =
    "untrusted comment: minisign public key 5FEDF038E7696EA1\n"
    "RWShbmnnOPDtX/L2T43DWul4C9RYY0nIWRa38J29UEVI2rH1cJKoHdi/\n";
static const char secret_key[] =
    "untrusted comment: minisign encrypted secret key\n"
    "RWQAAEIyAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAoW5p5zjw7V84U/ua7ITcl91spGgIUP/Szk3AGsqrIqBIOg0jb0aWTfL2T43DWul4C9RYY0nIWRa38J29UEVI2rH1cJKoHdi/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
static const char signature[] =
    "untrusted comment: signature from minisign secret key\n"
    "RUShbmnnOPDtX9yrT1Gxv5eb5V8vEwpFMgLiVijKeYAfd0froaDRuDdKNcxPfd7WdIz/d0K6zXxKYLuV/17Vnp8ZFh7GJoSy6QY=\n"
    "trusted comment: of a test\n"
    "j3AxtR/b0/ZDqpcbCp5RDnQ0XPxA+NjD0D5HflG4fowT8Tdefr088g5K6/5WxEiY0r66HxSANnuqOIkmsANcAQ==\n";
static const char old_signature[] =
    "untrusted comment: signature from minisign secret key\n"
    "RWShbmnnOPDtX669oGlnmu4VeibxVQSvPnISdWDfGATEOd+1HkY3ZdcxgeRLp86Um7SVEyL0klFyWrk31j51hMI4SfQW1jsZ3As=\n"
    "trusted comment: old\n"
    "29q/ue/isx6n79kOrvBCy8c9BaRj5pL+WtVf5TRssh+UHMZNGfDM/5Drh9eqzqfJjXDYtzP1Q+g40tu9hdH3Aw==\n";
static const char encrypted_public[] =
    "untrusted comment: minisign public key D44A5A2CBA94B3CA\n"
    "RWTKs5S6LFpK1EibGsa4btLa+aOH4IAeBiDJAoK30PiaJ9WY326haFIL\n";
static const char encrypted_secret[] =
    "untrusted comment: minisign encrypted secret key\n"
    "RWRTY0IyOKn+G+fKEDKgqEuzuCDMsMEoYql5SQDMKiQOXXrA8OkAAAACAAAAAAAAAEAAAAAAT77/BJq8wIS/O8k/w0NbvcaJUezlgYEeg33DTwhfSXfwxXtwfE8KaHPlxOnyXSkvJiENAQaDIA2XoQlFoDdeqBnDaMgWex/zZoWLdR6ZqT1z2jG8jgZwuhVjkmyN5C+79cfJPstuDsI=\n";
static const char message[] = "test\n";

static fs_bytes bytes(const char *s)
{
    return fs_bytes_str(s);
}

static void what_minisign_wrote_is_read(void **state)
{
    fs_public_key p, from_secret;
    fs_secret_key s;
    fs_bytes comment;
    fs_error err;
    uint8_t id[8];
    char text[17];

    (void)state;
    assert_ok(fs_public_key_read(bytes(public_key), "k.pub", &p, &err), err);
    assert_ok(fs_secret_key_read(bytes(secret_key), "k.sec", NULL, &s, &err), err);
    fs_minisign_public(&s, &from_secret);
    assert_memory_equal(&from_secret, &p, sizeof p);
    fs_minisign_id(p.id, text);
    assert_string_equal(text, "5FEDF038E7696EA1");
    assert_ok(fs_minisign_verify(&p, bytes(message), bytes(signature), "m", &comment, &err), err);
    assert_int_equal(comment.n_bytes, 9);
    assert_memory_equal(comment.data, "of a test", 9);
    assert_ok(fs_minisign_verify(&p, bytes(message), bytes(old_signature), "m", NULL, &err), err);
    assert_ok(fs_minisign_signer(bytes(signature), "m", id, &err), err);
    assert_memory_equal(id, p.id, 8);
    assert_ok(fs_public_key_read(bytes(strchr(public_key, '\n') + 1), "base64 alone", &from_secret, &err), err);
    assert_memory_equal(&from_secret, &p, sizeof p);
}

static void an_encrypted_key_wants_its_password(void **state)
{
    fs_public_key p, from_secret;
    fs_secret_key s;
    fs_error err;

    (void)state;
    assert_true(fs_secret_key_is_encrypted(bytes(encrypted_secret)));
    assert_false(fs_secret_key_is_encrypted(bytes(secret_key)));
    assert_int_equal(fs_secret_key_read(bytes(encrypted_secret), "e.sec", NULL, &s, &err), FS_ERR_ARGUMENT);
    assert_int_equal(fs_secret_key_read(bytes(encrypted_secret), "e.sec", "Pass", &s, &err), FS_ERR_ARGUMENT);
    assert_non_null(strstr(err.message, "wrong password"));
    assert_ok(fs_secret_key_read(bytes(encrypted_secret), "e.sec", "pass", &s, &err), err);
    assert_ok(fs_public_key_read(bytes(encrypted_public), "e.pub", &p, &err), err);
    fs_minisign_public(&s, &from_secret);
    assert_memory_equal(&from_secret, &p, sizeof p);
    fs_secret_key_wipe(&s);
}

static void what_is_written_is_read(void **state)
{
    fs_secret_key s, again;
    fs_public_key p, p2;
    fs_buf text = { 0 }, sig = { 0 };
    fs_bytes comment;
    fs_error err;

    (void)state;
    assert_ok(fs_minisign_new_key(&s, &err), err);
    fs_minisign_public(&s, &p);
    assert_ok(fs_secret_key_write(&s, NULL, &text, &err), err);
    assert_ok(fs_secret_key_read(fs_buf_bytes(&text), "new", NULL, &again, &err), err);
    assert_memory_equal(&s, &again, sizeof s);
    fs_buf_clear(&text);
    assert_ok(fs_public_key_write(&p, &text, &err), err);
    assert_ok(fs_public_key_read(fs_buf_bytes(&text), "new", &p2, &err), err);
    assert_memory_equal(&p, &p2, sizeof p);
    assert_ok(fs_minisign_sign(&s, bytes(message), "timestamp:1\tfile:m", &sig, &err), err);
    assert_ok(fs_minisign_verify(&p, bytes(message), fs_buf_bytes(&sig), "m", &comment, &err), err);
    assert_int_equal(comment.n_bytes, strlen("timestamp:1\tfile:m"));
    assert_int_equal(fs_minisign_sign(&s, bytes(message), "two\nlines", &sig, &err), FS_ERR_ARGUMENT);
    fs_buf_done(&text);
    fs_buf_done(&sig);
}

/* Any changed byte of the message, of either line of base64 or of the trusted comment: the signature does not hold. */
static void one_flipped_bit_is_found(void **state)
{
    fs_public_key p;
    char changed[sizeof signature], *second = strchr(signature, '\n') + 1;
    fs_error err;

    (void)state;
    assert_ok(fs_public_key_read(bytes(public_key), "k.pub", &p, &err), err);
    for (size_t i = 0; i < strlen(message) * 8; i++) {
        char m[sizeof message];
        memcpy(m, message, sizeof m);
        m[i / 8] = (char)(m[i / 8] ^ 1 << i % 8);
        assert_int_equal(fs_minisign_verify(&p, (fs_bytes){ (uint8_t *)m, strlen(message) }, bytes(signature), "m", NULL, &err), FS_ERR_FORMAT);
    }
    for (size_t i = 8 * (size_t)(second - signature); i < 8 * strlen(signature); i++) {
        memcpy(changed, signature, sizeof changed);
        changed[i / 8] = (char)(changed[i / 8] ^ 1 << i % 8);
        assert_int_equal(fs_minisign_verify(&p, bytes(message), (fs_bytes){ (uint8_t *)changed, strlen(signature) }, "m", NULL, &err), FS_ERR_FORMAT);
    }
}

static void what_is_no_key_is_refused(void **state)
{
    fs_public_key p;
    fs_secret_key s;
    fs_buf b = { 0 };
    fs_error err;

    (void)state;
    for (size_t n = 0; n < strlen(public_key) - 1; n++)
        assert_int_equal(fs_public_key_read((fs_bytes){ (const uint8_t *)public_key, n }, "cut", &p, &err), FS_ERR_FORMAT);
    for (size_t n = 0; n < strlen(secret_key) - 1; n++)
        assert_int_equal(fs_secret_key_read((fs_bytes){ (const uint8_t *)secret_key, n }, "cut", NULL, &s, &err), FS_ERR_FORMAT);
    for (size_t n = 0; n < strlen(signature) - 1; n++)
        assert_int_equal(fs_minisign_verify(&p, bytes(message), (fs_bytes){ (const uint8_t *)signature, n }, "cut", NULL, &err), FS_ERR_FORMAT);
    assert_ok(fs_buf_printf(&b, &err, "%s%s", public_key, "more\n"), err);
    assert_int_equal(fs_public_key_read(fs_buf_bytes(&b), "longer", &p, &err), FS_ERR_FORMAT);
    fs_buf_done(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_minisign_wrote_is_read), cmocka_unit_test(an_encrypted_key_wants_its_password),
        cmocka_unit_test(what_is_written_is_read),     cmocka_unit_test(one_flipped_bit_is_found),
        cmocka_unit_test(what_is_no_key_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
