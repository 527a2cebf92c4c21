#include "unit.h"

#include "crypto/blake3.h"
#include "crypto/sha256.h"

#include <stdlib.h>
#include <string.h>

/* By the program b3sum 1.3.1, without and with --keyed, of 0, 1, ... 250, 0, 1, ... (the input and the key of the BLAKE3
 * repository's test vectors). */
static const char key[] = "whats the Elvish word for friend";
static const struct {
    size_t n_bytes;
    const char *plain, *keyed;
} known[] = {
    { 0, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", "92b2b75604ed3c761f9d6f62392c8a9227ad0ea3f09573e783f1498a4ed60d26" },
    { 1, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213", "6d7878dfff2f485635d39013278ae14f1454b8c0a3a2d34bc1ab38228a80c95b" },
    { 63, "e9bc37a594daad83be9470df7f7b3798297c3d834ce80ba85d6e207627b7db7b", "bb1eb5d4afa793c1ebdd9fb08def6c36d10096986ae0cfe148cd101170ce37ae" },
    { 64, "4eed7141ea4a5cd4b788606bd23f46e212af9cacebacdc7d1f4c6dc7f2511b98", "ba8ced36f327700d213f120b1a207a3b8c04330528586f414d09f2f7d9ccb7e6" },
    { 65, "de1e5fa0be70df6d2be8fffd0e99ceaa8eb6e8c93a63f2d8d1c30ecb6b263dee", "c0a4edefa2d2accb9277c371ac12fcdbb52988a86edc54f0716e1591b4326e72" },
    { 127, "d81293fda863f008c09e92fc382a81f5a0b4a1251cba1634016a0f86a6bd640d", "c64200ae7dfaf35577ac5a9521c47863fb71514a3bcad18819218b818de85818" },
    { 128, "f17e570564b26578c33bb7f44643f539624b05df1a76c81f30acd548c44b45ef", "b04fe15577457267ff3b6f3c947d93be581e7e3a4b018679125eaf86f6a628ec" },
    { 1023, "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11", "c951ecdf03288d0fcc96ee3413563d8a6d3589547f2c2fb36d9786470f1b9d6e" },
    { 1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7", "75c46f6f3d9eb4f55ecaaee480db732e6c2105546f1e675003687c31719c7ba4" },
    { 1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444", "357dc55de0c7e382c900fd6e320acc04146be01db6a8ce7210b7189bd664ea69" },
    { 2048, "e776b6028c7cd22a4d0ba182a8bf62205d2ef576467e838ed6f2529b85fba24a", "879cf1fa2ea0e79126cb1063617a05b6ad9d0b696d0d757cf053439f60a99dd1" },
    { 2049, "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030", "9f29700902f7c86e514ddc4df1e3049f258b2472b6dd5267f61bf13983b78dd5" },
    { 3072, "b98cb0ff3623be03326b373de6b9095218513e64f1ee2edd2525c7ad1e5cffd2", "044a0e7b172a312dc02a4c9a818c036ffa2776368d7f528268d2e6b5df191770" },
    { 4096, "015094013f57a5277b59d8475c0501042c0b642e531b0a1c8f58d2163229e969", "befc660aea2f1718884cd8deb9902811d332f4fc4a38cf7c7300d597a081bfc0" },
    { 5120, "9cadc15fed8b5d854562b26a9536d9707cadeda9b143978f319ab34230535833", "2c493e48e9b9bf31e0553a22b23503c0a3388f035cece68eb438d22fa1943e20" },
    { 8192, "aae792484c8efe4f19e2ca7d371d8c467ffb10748d8a5a1ae579948f718a2a63", "dc9637c8845a770b4cbf76b8daec0eebf7dc2eac11498517f08d44c8fc00d58a" },
    { 16384, "f875d6646de28985646f34ee13be9a576fd515f76b5b0a26bb324735041ddde4", "9e9fc4eb7cf081ea7c47d1807790ed211bfec56aa25bb7037784c13c4b707b0d" },
    { 31744, "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47", "efa53b389ab67c593dba624d898d0f7353ab99e4ac9d42302ee64cbf9939a419" },
    { 65535, "de7d0f4c044c56f56e0c5f7ab247be9491c4520e8688f0f0d25406f46fdfbd03", "dbd9e4c189c679f0aeb2a1050d7989127af02867f8aff47362c5dc3c2a8de76c" },
    { 65536, "68d647e619a930e7b1082f74f334b0c65a315725569bdc123f0ee11881717bfe", "160fb7538a11d83b9b311825a6baef08484d6aabb8276900a1fb08648085cca2" },
    { 65537, "7c99f9840a73dfcb6e5bfe4ff6d1558acab7e015640790c26411818bdbe17eca", "8f9e30b67fc0c4c1d0d5fb87e183d48248d97712223b73a8e1721a77c88c6e1d" },
    { 102400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085", "1c35d1a5811083fd7119f5d5d1ba027b4d01c0c6c49fb6ff2cf75393ea5db4a7" },
    { 131072, "306baba93b1a393cbd35172837c98b0f59a41f64e1b2682ae102d8b2534b9e1c", "def66234dd1a614a994a3dbe7bbc8edf9bbc3fae90222334c8a77320f94d3fe8" },
    { 196608, "88939057eab3697bc0f667ad559433aad6e7a1bf5172aa28cc5420785b1e368c", "fef8fcba6d243dca8526b9c49b9f20ba73dd2d48ecb440d6823e2fd9745774c7" },
    { 200000, "55409142cced2ec79897459f170b6d22565daf883710b4ad7aeeddaef54244b4", "89058fe8dc6c2bc3c15c21693a5f2b066a35dff712874efee2c20066e609042f" },
    { 1048577, "2f053cd7472cf0cd2f9adaf45c1180255b91b9a865404a63671a0ee5f792ed33", "a0c8e093827da3e07e22fa684eb60fc1600cf44c5036c80fb0b587d0f39ef421" },
};
#define BYTES_MAX 1048577

static uint8_t *data;

static int make_data(void **state)
{
    (void)state;
    data = malloc(BYTES_MAX);
    assert_non_null(data);
    for (size_t i = 0; i < BYTES_MAX; i++)
        data[i] = (uint8_t)(i % 251);
    return 0;
}

static int free_data(void **state)
{
    (void)state;
    free(data);
    return 0;
}

static void assert_hash(const uint8_t hash[32], const char *hex)
{
    char text[65];

    fs_hex(hash, 32, text);
    assert_string_equal(text, hex);
}

static void what_b3sum_says(void **state)
{
    static const int lanes[] = { 1, 8, 16 };

    (void)state;
    for (size_t l = 0; l < sizeof lanes / sizeof *lanes; l++) {
        fs_blake3_lanes_limit(lanes[l]);
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            uint8_t hash[32];
            fs_blake3_hash(NULL, data, known[i].n_bytes, hash);
            assert_hash(hash, known[i].plain);
            fs_blake3_hash((const uint8_t *)key, data, known[i].n_bytes, hash);
            assert_hash(hash, known[i].keyed);
        }
    }
    fs_blake3_lanes_limit(0);
    assert_true(fs_blake3_lanes() >= 1);
}

static void any_pieces_give_one_hash(void **state)
{
    static const size_t steps[] = { 1000, 1024, 65535, 65536, 65537, 200000 };
    fs_blake3 *h = malloc(sizeof *h);

    (void)state;
    assert_non_null(h);
    for (size_t s = 0; s < sizeof steps / sizeof *steps; s++)
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
            uint8_t hash[32], early[32];
            size_t n = known[i].n_bytes;
            fs_blake3_init(h, NULL);
            for (size_t at = 0; at < n; at += steps[s]) {
                fs_blake3_update(h, data + at, n - at < steps[s] ? n - at : steps[s]);
                fs_blake3_final(h, early); /* and more may follow */
            }
            fs_blake3_final(h, hash);
            assert_hash(hash, known[i].plain);
        }
    free(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(what_b3sum_says), cmocka_unit_test(any_pieces_give_one_hash) };
    return cmocka_run_group_tests(tests, make_data, free_data);
}
