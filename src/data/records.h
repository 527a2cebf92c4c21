/* Training data: one JSON object a line, of three kinds:
 *
 *   {"text": "..."}                                       a document
 *   {"messages": [{"role": "user", "content": "..."}]}    a conversation
 *   {"prompt": "...", "answer": "...", "trace": "..."}    a problem; the trace, what is thought before the answer, may be missing
 *
 * Other members stay with the record and mean nothing here. Files are mapped; a record is spans of its line. */
#ifndef FS_DATA_RECORDS_H
#define FS_DATA_RECORDS_H

#include "base/file.h"

/* Lines without their end ("\n" or "\r\n"); the last one need not have one. Zeroed over empty text is valid. */
typedef struct fs_lines {
    fs_bytes text;
    size_t at, number; /* number of the line given last, from 1 */
} fs_lines;
bool fs_lines_next(fs_lines *l, fs_bytes *ret_line);

typedef enum fs_data_record_kind { FS_DATA_TEXT, FS_DATA_MESSAGES, FS_DATA_PROBLEM } fs_data_record_kind;

/* Members are JSON values with their quotes, valid and borrowed; empty: not there. */
typedef struct fs_data_record {
    fs_data_record_kind kind;
    fs_bytes json; /* all of it */
    fs_bytes text, messages, prompt, answer, trace;
} fs_data_record;

/* what and line_number name the line in sentences. */
fs_status fs_data_record_parse(fs_bytes line, const char *what, size_t line_number, fs_data_record *ret, fs_error *err);
/* Appends the words of a record: its text; the contents of its messages, or its prompt, trace and answer, with a line end
 * between two. */
fs_status fs_data_record_words(const fs_data_record *r, fs_buf *out, fs_error *err);
/* The next record of lines; blank lines are stepped over. *ret_more false: there is none. */
fs_status fs_data_record_next(fs_lines *l, const char *what, fs_data_record *ret, bool *ret_more, fs_error *err);

#endif
