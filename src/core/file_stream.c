/* file_stream.c — files too large to hold: read a piece at a time, and hashed that way.
 *
 * Owns FileReader and the SHA-256 of files and bytes; the only file that sees OpenSSL's digests.
 */
#include "core/file.h"

#include "core/os_file.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>

enum { HASH_CHUNK = 1 << 20 };

struct FileReader {
    int fd;
    ErrCode code;
    char *path;
};

FileReader *file_reader_open(const char *path, ErrCode code, Err *err)
{
    assert(path != NULL && code > ERR_NONE && code < ERR_COUNT);
    int fd;
    int error = os_file_open(path, &fd);
    if (error != 0) {
        err_set(err, code, "cannot open '%s': %s", path, os_file_error(error));
        return NULL;
    }
    FileReader *reader = heap_resize(NULL, sizeof *reader);
    *reader = (FileReader){.fd = fd, .code = code};
    reader->path = heap_resize(NULL, strlen(path) + 1);
    memcpy(reader->path, path, strlen(path) + 1);
    return reader;
}

bool file_reader_read(FileReader *reader, void *data, size_t bytes, size_t *got, Err *err)
{
    assert(reader != NULL && bytes > 0);
    int error = os_file_read(reader->fd, data, bytes, got);
    if (error != 0)
        return err_set(err, reader->code, "cannot read '%s': %s", reader->path,
                       os_file_error(error));
    return true;
}

void file_reader_close(FileReader *reader)
{
    if (reader == NULL)
        return;
    os_file_close(reader->fd);
    heap_free(reader->path);
    heap_free(reader);
}

void bytes_sha256(Str bytes, uint8_t digest[SHA256_BYTES])
{
    unsigned len = 0;
    must(EVP_Digest(bytes.len > 0 ? bytes.data : "", bytes.len, digest, &len, EVP_sha256(), NULL) ==
         1);
    must(len == SHA256_BYTES);
}

void sha256_hex(const uint8_t digest[SHA256_BYTES], char hex[65])
{
    assert(digest != NULL && hex != NULL);
    for (int i = 0; i < SHA256_BYTES; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", digest[i]);
}

bool file_sha256(const char *path, char hex[65], ErrCode code, Err *err)
{
    FileReader *reader = file_reader_open(path, code, err);
    if (reader == NULL)
        return false;
    uint8_t *chunk = heap_resize(NULL, HASH_CHUNK), digest[SHA256_BYTES];
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    must(hash != NULL && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) == 1);
    bool ok = true;
    for (size_t got = 1; ok && got > 0;) {
        ok = file_reader_read(reader, chunk, HASH_CHUNK, &got, err);
        must(!ok || EVP_DigestUpdate(hash, chunk, got) == 1);
    }
    unsigned len = 0;
    must(EVP_DigestFinal_ex(hash, digest, &len) == 1 && len == SHA256_BYTES);
    sha256_hex(digest, hex);
    EVP_MD_CTX_free(hash);
    heap_free(chunk);
    file_reader_close(reader);
    return ok;
}
