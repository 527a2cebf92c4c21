/* YAML, thin over libyaml, read into the same json-c values as JSON so that configuration and recipes share the
 * typed look-ups of json.h. A strict subset: one document; block or flow mappings and sequences; string keys,
 * none twice; no anchors, aliases or tags. Plain scalars follow the core schema of YAML 1.2 (null, true, false,
 * integers, floats; anything else is a string), so `no` is the word no. */
#ifndef FS_BASE_YAML_H
#define FS_BASE_YAML_H

#include "base/json.h"

/* Parses all of text; an empty document is an empty mapping. what names the source in the sentence, which carries
 * the line. Numbers keep their spelling: json_object_get_string of a float gives the file's text. Free the result
 * with json_object_put. */
fs_status fs_yaml_parse(fs_bytes text, const char *what, struct json_object **ret, fs_error *err);

#endif
