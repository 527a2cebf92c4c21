#!/usr/bin/env python3
"""jinja_cases.json and jinja_templates.json: make_jinja_vectors.py OUTDIR TEMPLATES [MORE]

What jinja2 makes of templates when it is configured as transformers does (utils/chat_template_utils.py), or that it
refuses them. jinja_cases.json: small templates over one set of variables, their output as it is. jinja_templates.json:
the conversations below through published chat templates, the output's SHA-256. TEMPLATES is the folder that
make_template_vectors.py describes; committed are the templates of Apache-2.0 and MIT (chatml, qwen2, qwen3, smollm2,
deepseek-v3, deepseek-r1). MORE is a folder of any other *.jinja: they go to OUTDIR/jinja_more.json, which is not committed
(tests/unit/test_jinja.c takes such a file by its environment variable JINJA_MORE)."""
import contextlib
import datetime
import hashlib
import json
import os
import random
import sys

import jinja2
from transformers.utils import chat_template_utils as T

NOW = datetime.datetime(2024, 7, 6, 5, 4, 3)


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


T.datetime = Clock


def render(text, variables):
    try:
        return T._compile_jinja_template(text).render(**variables)
    except Exception:
        return None


VARS = {
    "s": "Hello, World", "u": "Ünï\tçødé 写诗 😀", "empty": "", "sp": "  pad\n ", "nul": "a\u0000b", "q": "it's \"q\" \\ \u001b\u00a0", "n": 42, "neg": -7, "f": 2.5,
    "big": 1e22, "small": 1e-7, "t": True, "fa": False, "no": None, "l": [3, 1, 2], "ls": ["b", "A", "c", "a"], "e": [],
    "d": {"b": 1, "a": [1, 2.0, None, True, "x"], "C": {"k": "v"}, "items": "shadow"}, "ed": {},
    "m": [{"role": "user", "content": "hi", "n": 1}, {"role": "assistant", "content": "yo <b>", "n": 3, "tool_calls": [{"function": {"name": "f", "arguments": {"x": 1}}}]},
          {"role": "user", "content": "", "n": 2}, {"role": "tool", "content": None}],
    "nest": [[1, [2, [3]]], {"a": {"b": {"c": [0]}}}], "lines": "a\nb\n\n  c\n", "csv": "a,b,,c",
}

E = """
s|upper; s|lower; s|length; u|length; u|upper; u|lower; u|title; s|capitalize; u|capitalize; sp|trim; s|trim('Hd'); s|replace('l','L'); s|replace('l','L',1); s|replace('','-'); s|replace('zz','');
n|string + 'x'; n|int; f|int; '12'|int; ' 12 '|int; '1_000'|int; '12.7'|int; 'x'|int; 'x'|int(5); 'ff'|int(0,16); '0xff'|int(0,16); none|int; l|int; '3.5'|float; 'x'|float; 'x'|float(1.5); n|float; '1e3'|float; 'inf'|float; 'nan'|float; t|int; t|float
f|round; 2.5|round; 3.5|round; 2.675|round(2); 42|round; 42.55|round(1,'floor'); 42.51|round(1,'ceil'); -2.5|round; 1.25|round(1); 7|round(1,'ceil'); f|abs; neg|abs; t|abs; s|abs; x|abs
l|first; l|last; e|first; e|last; s|first; s|last; u|last; x|first; d|first; l|sort; l|sort(reverse=true); ls|sort; ls|sort(case_sensitive=true); ls|sort(true, true); m|sort(attribute='role')|map(attribute='content')|list; l|max; l|min; e|max; ls|max; ls|min; ls|max(true); l|sum; m[:3]|sum(attribute='n'); m|sum(attribute='n'); ls|sum; e|sum
l|join; l|join(', '); ls|join('-'); s|join('.'); m|join(',', attribute='role'); d|join(','); e|join('x'); [1,none,x,true,2.0]|join('|'); l|reverse|list; s|reverse; u|reverse; ls|unique|list; (ls + ['B','a'])|unique|list; (ls+['a'])|unique(true)|list; [1,1.0,true,2]|unique|list; l|list; s|list; d|list; u|list; range(5)|list; d|length; l|count; n|length; none|length; x|length; e|length; range(7)|length
x|default('D'); s|default('D'); empty|default('D'); empty|default('D', true); none|default('D'); no|default('D', boolean=true); x|d; x.y|default('D'); d.zz|default('D'); d.zz.y|default('D'); x|default
d|dictsort; d.C|dictsort; d|dictsort(by='value'); {'b':1,'A':2,'a':0}|dictsort; {'b':1,'A':2}|dictsort(true); {'b':1,'A':2}|dictsort(false,'value'); {'b':1,'a':2}|dictsort(reverse=true); d|items|list; x|items|list; l|items; ed|items|list; no|items
m|selectattr('role','equalto','user')|list|length; m|selectattr('content')|map(attribute='content')|list; m|rejectattr('content')|map(attribute='role')|list; m|rejectattr('role','in',['user','tool'])|map(attribute='role')|join(','); m|selectattr('tool_calls','defined')|list|length; m|selectattr('content','none')|list; m|map(attribute='n')|list; m|map(attribute='n', default=0)|list; m|map(attribute='tool_calls.0.function.name', default='-')|list; ls|map('upper')|list; ls|map('upper')|join; ls|map('replace','a','z')|list; l|select('odd')|list; l|reject('gt', 1)|list; [0,1,'',none,'x']|select|list; [0,1,'',none,'x']|reject|list; l|select('divisibleby', 3)|list; l|map|list; l|map('nope')|list; l|select('nope')|list; e|map('nope')|list; m|selectattr|list; none|map('upper')|list; 0|select|list; n|select|list; none|selectattr('x')|list; none|unique|list; none|reverse|list; none|join; none|sort; none|first; n|map('upper')|list; m|map(attribute='content')|select('string')|list; ls|select('in','abc')|list; m|map(attribute='role')|unique|list; m|first|attr('role'); 's'|attr('upper')
s|tojson; u|tojson; q|tojson; nul|tojson; d|tojson; d|tojson(indent=2); m|tojson; m|tojson(indent=4); l|tojson; e|tojson; ed|tojson; e|tojson(indent=2); [[],{},[1]]|tojson(indent=1); x|tojson; none|tojson; t|tojson; f|tojson; big|tojson; small|tojson; n|tojson; (1,2)|tojson; u|tojson(ensure_ascii=true); '\\x7f'|tojson(ensure_ascii=true); '\\x7f'|tojson; d|tojson(sort_keys=true); d|tojson(separators=(',',':')); d|tojson(indent=2,separators=(';','=')); {1:2,none:3,true:4,2.5:5}|tojson; l|map('string')|tojson; range(3)|tojson; d.items()|tojson; d|tojson(indent='\\t'); nest|tojson(indent=0); 'a/b<c>&\\''|tojson; d|tojson(true); [1.0, 1e16, 123456789012345680.0, 0.1, 1e-5, 0.0001, -0.0]|tojson
lines|indent; lines|indent(2); lines|indent(2,true); lines|indent(2,true,true); lines|indent('> '); lines|indent(width=3, blank=true); s|indent; empty|indent; 'a\\n'|indent; s|wordcount; s|title; 'foo-bar (baz) it\\'s'|title; s|safe; '<&>"\\''|e; '<&>'|escape; 5|upper; none|lower; true|string; l|string; d|string; s|nosuch; s|upper(1); s|trim(chars='H'); s|xmlattr2
1 + 2; 1 - 2 * 3; 7 // 2; -7 // 2; 7 % 3; -7 % 3; 7 % -3; 7 / 2; 4 / 2; 2 ** 10; 2 ** -1; 2 ** 3 ** 2; -2 ** 2; 1 / 0; 1 // 0; 1 % 0; 7.5 // 2; 7.5 % 2; -7.5 % 2; 1.5 + 1; t + 1; t * 3; 'a' + 'b'; 'a' + 1; 1 + 'a'; 'a' * 3; 3 * 'ab'; [1] * 2; [1] + [2]; (1,) + (2,); [1] + (2,); 'a' * -1; l + 1; none + 1; x + 1; x ~ 'a'; 1 ~ 2; none ~ true ~ 1.0 ~ [1,'a'] ~ {'k': none}; 'a' ~ 'b' + 'c'; 1 + 2 ~ 3; 2 * 3 ~ 4; 'a' - 'b'; -s; +n; -n; -f; -t; - x; 2**62; 10**15 * 10; 'x' % 1; 1.0; 1e3; 1.5e-3; 1_000; 0; 00; 3.0 * 2; 0.1 + 0.2; 1e16; 123456789.123; 1e-4; 1e-5; 100000000000000000.0
1 == 1.0; 1 == true; '1' == 1; none == none; x == y; x == none; [1,2] == [1,2.0]; [1] == (1,); (1,2) == (1,2); {'a':1} == {'a':1.0}; {'a':1} != {'b':1}; 1 < 2 < 3; 1 < 2 > 3; 3 > 2 >= 2; 'a' < 'b'; 'B' < 'a'; 'é' > 'z'; [1,2] < [1,3]; (1,) < (1,2); 1 < 'a'; none < 1; x < 1; 1 < x; l == l; s != s; true < 2; 2 == 2 in [true]; 1 in l; 9 in l; 'ell' in s; '' in s; 'zz' not in s; 1 in s; 'a' in d; 'zz' in d; 'k' in d.C; x in l; 'a' in x; 1 in none; 1 in n; [1] in [[1]]; 'a' in ('a','b'); l in d; not 'a' in d; none in [none]; 'user' in m|map(attribute='role'); d.items() == d.items(); range(3) == range(3)
t and s; fa and s; empty or s; s or x; not s; not x; not empty; not not s; x or y; x and y; x or 'd'; none or 0; 0 or none; e or ed; t and fa or s; t or fa and x.y; not t == fa; (not t) == fa; 1 if t else 2; 1 if fa else 2; 1 if fa; (1 if fa) is defined; 'a' if x else 'b' if fa else 'c'; 1 if x is defined else 2; x.y if t else 1; x.y if fa else 1
x is defined; s is defined; x is undefined; x is not defined; none is none; no is none; x is none; s is string; n is string; d is mapping; l is mapping; l is iterable; s is iterable; n is iterable; x is iterable; d is iterable; l is sequence; s is sequence; d is sequence; x is sequence; range(2) is sequence; d.items() is sequence; d.items() is iterable; l|map('string') is iterable; l|map('string') is sequence; n is number; t is number; f is number; s is number; n is integer; t is integer; f is integer; f is float; t is boolean; n is boolean; t is true; 1 is true; fa is false; 0 is false; n is odd; n is even; 3 is odd; n is divisibleby 7; n is divisibleby(5); n is eq 42; n is eq(42); n is equalto 42; n is ne 1; 1 is lt 2; 2 is le 2; 1 is gt 2; 2 is ge 2; 1 is in l; 9 is in(l); 1 is not in l; 'a' is lower; 'A' is upper; '1' is lower; 'aB' is lower; s is callable; range is callable; s.upper is callable; x is callable; s is nosuch; n is divisibleby; s is string is string; s is not string and t; s is string or t; 1 is sameas 1; none is sameas none; true is sameas true; true is sameas 1; 'upper' is filter; 'zork' is filter; 'defined' is test; d.zz is defined; d.a is defined; d['zz'] is defined; x.y is defined; s.foo is defined; n.foo is defined; none.foo is defined; l[99] is defined; l[0] is defined; s is string if t else 1; -1 is odd; not x is defined; x is defined and x.y; n is 42; s is escaped
s[0]; s[-1]; s[99]; u[0]; u[-1]; u[4]; s[1:3]; s[:-1]; s[::-1]; s[::2]; s[5:2]; s[-3:]; s[100:]; s[:100]; u[1:4]; u[::-1]; u[-2:]; l[0]; l[-1]; l[3]; l[1:]; l[::-1]; l[:2]; l[-2:]; l[3:0:-1]; l[::0]; l[::-2]; (1,2,3)[1:]; d['b']; d['a'][0]; d.a[1]; d.C.k; d['C']['k']; d.items; d['items']; d.get('a'); d.get('zz'); d.get('zz', 5); d.get(); d.keys(); d.values()|list; d.items()|list; ed.items(); d.keys()|list; d.C.items(); x[0]; x.y; x[1:]; none.foo; none[0]; none['a']; n.foo; n[0]; l.foo; l['foo']; s.foo; d.zz; d.zz.y; l.0; m.0.role; m[0].role; m[-1]['role']; m[0]['content'][0]; l[t]; s[t]; d[none]; d[[1]]; l['a':]; l[none:2]; range(5)[1]; range(5)[-1]; range(5); range(1,5); range(1,9,2); range(5,1,-1)|list; range(0)|list; range(1,2,0); range(100001); range('a'); range(2.0); nest[0][1][1][0]; nest[1].a.b.c[0]; s.__class__; d.__class__; s._x; d._x; l[1.0]; d[1]; d[(1,2)]
s.upper(); s.lower(); s.title(); 'it\\'s a b-c 1x'.title(); s.capitalize(); sp.strip(); sp.lstrip(); sp.rstrip(); s.strip('Hd'); s.strip(none); s.lstrip('He'); s.rstrip('d'); 'xxaxx'.strip('x'); '写a写'.strip('写'); sp.strip()|length; s.split(); s.split(','); s.split(', ')[-1]; csv.split(','); csv.split(',',1); csv.rsplit(',',1); csv.split(',', maxsplit=2); ''.split(); ''.split(','); ' a  b '.split(); ' a  b c '.split(none,1); ' a  b '.split(' '); s.split(''); csv.rsplit(','); '</think>a</think>b'.split('</think>'); 'x</think>y'.split('</think>')[-1].lstrip('\\n'); lines.splitlines(); lines.splitlines(true); 'a\\r\\nb\\rc'.splitlines(); s.startswith('Hell'); s.startswith(('x','H')); s.endswith('ld'); s.endswith(('x','y')); s.startswith(''); s.startswith(1); s.startswith(['H']); s.replace('l','L'); s.replace('l','L',2); s.replace('l'); s.replace('','.'); u.replace('','.'); s.find('l'); s.find('z'); s.rfind('l'); s.index('l'); s.index('z'); s.rindex('o'); u.find('写'); s.count('l'); s.count(''); 'aaa'.count('aa'); ','.join(ls); ','.join(l); ','.join('abc'); ', '.join(d.C.keys()); '12'.isdigit(); ''.isdigit(); '1a'.isdigit(); 'ab'.isalpha(); 'a1'.isalnum(); ' \\t'.isspace(); 'AB'.isupper(); 'A1'.isupper(); '1'.isupper(); 'ab'.islower(); 'aB'.islower(); 'prefix-x'.removeprefix('prefix-'); 'x.txt'.removesuffix('.txt'); 'a=b=c'.partition('='); 'a=b=c'.rpartition('='); 'abc'.partition('='); 'abc'.rpartition('='); s.foo(); s.upper(1); s.nosuch; n.upper(); x.upper(); x(); s(); none(); 'straße'.upper(); 'ß'.title(); 'ǆ'.title()
l.index(1); l.index(99); l.count(1); (1,2,1).count(1); l.append(4); d.update({}); d.pop('a'); l.copy(); d.copy() == d; l.append is defined; d.pop is defined; d.get is defined; d.items() is defined; l.sort()
'a\\nb'; 'a\\tb'; '\\\\'; '\\''; "\\""; '\\u00e9'; '\\x41'; '\\U0001F600'; '\\q'; '\\101'; 'a' 'b'; "it's"; 'say "hi"'; '' ; 'a\\
b'; ['a', 'b"\\'', 'é', '\\n', '\\x00', '\\u200b', 1.5, none, true, [x]]; {'a': (1,), 'b': ()}; (1); (1,); (); []; {}; [1,]; {'a':1,}; {'a':1}['a']; [[1,2],[3]][1][0]; {'a':1,'a':2}; {1:'a', 1.0:'b'}; {[1]:2}; true; True; false; none; None; TRUE; 1,2; nul; q; [q]; [nul]; [u]; [s, sp]; [big, small, f, -0.0]
dict(a=1); dict(a=1)['a']; dict({'a':1}, b=2); dict([['a',1]]); dict(); namespace(a=1).a; namespace().a; namespace({'a':1}).a; namespace(_a=1); strftime_now('%Y-%m-%d'); strftime_now('%d %b %Y'); strftime_now('%H:%M:%S %A %B %j %%'); strftime_now('%-d %B %Y') ; strftime_now(''); raise_exception('boom'); raise_exception('a' + 1); lipsum; cycler; nosuch(); messages; range(3)|join(','); loop; loop.index; self; caller; varargs
(1; 1); [1; {1}; {'a'}; 1 +; + ; a b; 'abc; @; 1 ? 2; s|; s|1; s.; s.'a'; s[; s[]; s[1,2]; f(a=1, 2); f(*l); f(**d); s is; not; and; 1 and; in l; if; s if; 1 if else 2; 01; 1.; .5; 0x1f; 1e400; 99999999999999999999; 'a' if; {{; }}; ; a=1; x == ; 1 not 2; 1 not in; a..b; (); s|length|; lambda; ~1; 1 ~; !t; t && fa; l[0; d['a; %}
"""

B = r"""
{% if t %}A{% endif %}@@{% if fa %}A{% elif t %}B{% else %}C{% endif %}@@{% if fa %}A{% elif fa %}B{% else %}C{% endif %}@@{% if x %}A{% endif %}|@@{% if t %}A@@{% endif %}@@{% else %}@@{% if %}A{% endif %}@@{% if t %}A{% else %}B{% else %}C{% endif %}@@{% if t %}A{% else %}B{% elif t %}C{% endif %}
@@{% for i in l %}{{ i }},{% endfor %}@@{% for i in e %}x{% else %}none{% endfor %}@@{% for i in x %}x{% else %}none{% endfor %}@@{% for i in n %}x{% endfor %}@@{% for i in none %}x{% endfor %}@@{% for c in u %}[{{ c }}]{% endfor %}@@{% for k in d %}{{ k }}{% endfor %}@@{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}@@{% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}@@{% for a, b in [[1,2],[3,4]] %}{{ a }}-{{ b }} {% endfor %}@@{% for a, b in [[1,2,3]] %}{{ a }}{% endfor %}@@{% for a, (b, c) in [[1,[2,3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}@@{% for a, in [[1]] %}{{ a }}{% endfor %}@@{% for (a, b) in [(1,2)] %}{{ a }}{{ b }}{% endfor %}
@@{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.revindex }}{{ loop.revindex0 }} {% endfor %}@@{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }}:{{ i }}{{ loop.last }} {% endfor %}@@{% for i in l if i > 9 %}{{ i }}{% else %}none{% endfor %}@@{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }} {% endfor %}@@{% for i in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}@@{% for i in l %}{{ loop.cycle('a','b') }}{% endfor %}@@{% for i in l %}{{ loop.cycle() }}{% endfor %}@@{% for i in [1,1,2] %}{{ loop.changed(i) }}{% endfor %}@@{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}@@{% for i in l %}{{ loop.depth }}{{ loop.depth0 }}{{ loop.zork }}{% endfor %}@@{% for i in l %}{% set outer = loop %}{% for j in [1] %}{{ outer.index }}{% endfor %}{% endfor %}@@{{ loop.index }}@@{% for i in l %}{{ i }}{% endfor %}{{ i }}@@{% set i = 9 %}{% for i in l %}{{ i }}{% endfor %}{{ i }}@@{% for i in l %}{% if loop.last %}!{% endif %}{{ i }}{% if not loop.last %}, {% endif %}{% endfor %}
@@{% for i in l %}{% if i == 1 %}{% break %}{% endif %}{{ i }}{% endfor %}@@{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}@@{% for i in l %}{% for j in l %}{% if j == 1 %}{% break %}{% endif %}{{ j }}{% endfor %}.{% endfor %}@@{% break %}@@{% continue %}@@{% for i in l %}{% break %}{% else %}never{% endfor %}@@{% for i in l if loop.first %}{{ i }}{% endfor %}@@{% for i in l recursive %}{{ i }}{% endfor %}@@{% for i in 1, 2, 3 %}{{ i }}{% endfor %}@@{% for i in (1, 2) if i == 2 %}{{ i }}{% endfor %}@@{% for i in range(3) %}{{ i }}{% endfor %}@@{% for i in l|reverse %}{{ i }}{% endfor %}@@{% for i in l[::-1] %}{{ loop.index }}{{ i }}{% endfor %}@@{% for x in l %}{{ x }}{% endfor %}{{ x is defined }}@@{% for i in %}{% endfor %}@@{% for i l %}{% endfor %}@@{% for 1 in l %}{% endfor %}@@{% for i in l %}@@{% endfor %}
@@{% set a = 1 %}{{ a }}@@{% set a, b = 1, 2 %}{{ a }}{{ b }}@@{% set a, b = [1] %}{{ a }}@@{% set (a, b) = (1, 2) %}{{ a + b }}@@{% set a = 1, 2 %}{{ a }}@@{% set a %}text {{ n }}{% endset %}[{{ a }}]@@{% set a | upper %}text{% endset %}{{ a }}@@{% set a|upper|replace('T','_') %}text{% endset %}{{ a }}@@{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{{ ns.a }}@@{% set ns = namespace() %}{% for i in l %}{% set ns.last = i %}{% endfor %}{{ ns.last }}@@{% set d.a = 1 %}@@{% set zz.a = 1 %}@@{% set ns = namespace() %}{% set ns._a = 1 %}@@{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}@@{% set a = 0 %}{% for i in l %}{% set a = a + i %}{{ a }}{% endfor %}{{ a }}@@{% if t %}{% set a = 5 %}{% endif %}{{ a }}@@{% for i in l %}{% if a is defined %}D{% endif %}{% set a = i %}{% endfor %}@@{% set true = 1 %}@@{% set none = 1 %}@@{% set a %}@@{% set = 1 %}@@{% set a = %}@@{% set a 1 %}@@{% set m = m[1:] %}{{ m|length }}@@{% set ns = namespace(a=[]) %}{% set ns.a = ns.a + [1] %}{{ ns.a }}@@{% set range = 5 %}{{ range }}@@{% set a = b %}{{ a is defined }}@@{% set a = x %}{{ a }}|
@@{% macro f(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ f(1) }} {{ f(1, 3) }} {{ f(b=4, a=5) }} {{ f() }}@@{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, 2) }}@@{% macro f(a) %}{{ a }}{% endmacro %}{{ f(z=2) }}@@{% macro f(a) %}{{ a }}{% endmacro %}{{ f(1, a=2) }}@@{% macro f(a, b=a) %}{{ b }}{% endmacro %}{{ f(7) }}@@{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}@@{% macro f() %}{{ s }}{% endmacro %}{{ f() }}{{ f()|length }}@@{% macro f() %}  x  {% endmacro %}[{{ f()|trim }}]@@{% macro f() %}{% for i in l %}{{ i }}{% endfor %}{% endmacro %}{% set r = f() %}{{ r }}{{ r is string }}@@{{ f() }}{% macro f() %}x{% endmacro %}@@{% macro f() %}{{ later }}{% endmacro %}{% set later = 1 %}{{ f() }}@@{% macro f(a) %}{% set a = a + 1 %}{{ a }}{% endmacro %}{% set a = 1 %}{{ f(a) }}{{ a }}@@{% macro f(a b) %}{% endmacro %}@@{% macro f(a=1, b) %}{% endmacro %}@@{% macro f %}{% endmacro %}@@{% macro f() %}{{ f.name }}{% endmacro %}{{ f() }}@@{% macro f() %}{{ caller() }}{% endmacro %}{% call f() %}in{% endcall %}@@{% macro f() %}{{ caller(1, 2) }}{% endmacro %}{% call(a, b) f() %}{{ a }}{{ b }}{{ n }}{% endcall %}@@{% macro f() %}{% break %}{% endmacro %}{% for i in l %}{{ f() }}{% endfor %}@@{% macro f(x) %}{{ x.y }}{% endmacro %}{{ f() }}@@{% macro a() %}A{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}@@{% macro f(d) %}{% for k in d %}{{ k }}:{% if d[k] is mapping %}{{ f(d[k]) }}{% else %}{{ d[k] }}{% endif %};{% endfor %}{% endmacro %}{{ f(d) }}
@@{% generation %}a{{ n }}{% endgeneration %}b@@{% for i in l %}{% generation %}{{ i }}{{ loop.index }}{% endgeneration %}{% endfor %}@@{% generation %}{% set a = 1 %}{% endgeneration %}{{ a }}|@@{% generation %}a@@{% filter upper %}a{{ s }}{% endfilter %}@@{% filter replace('a','b')|upper %}aa{% endfilter %}@@{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}@@{% with %}x{% endwith %}@@{% set a = 1 %}{% with a = 2, b = a %}{{ a }}{{ b }}{% endwith %}@@{% raw %}{{ x }}{% if %}{% endraw %}!@@{%- raw -%}  {{ x }}  {%- endraw -%}  !@@{% raw %}@@{# comment #}a@@a {#- comment -#} b@@{# {{ x }} {% if %} #}b@@{# open@@a{#
multi
#}b@@{% include 'x' %}@@{% import 'x' as y %}@@{% from 'x' import y %}@@{% extends 'x' %}@@{% block a %}x{% endblock %}@@{% do l.append(1) %}@@{% nosuch %}@@{% autoescape true %}x{% endautoescape %}@@{% trans %}x{% endtrans %}@@{% %}@@{% if t
%}A{% endif
%}@@{{ n@@{{ n }@@{{ n %}@@{% if t }}@@}}@@%}@@{@@{ {@@{{}}@@{{ }}@@a{{ {'a': {'b': 1}} }}b@@a{{ {'a': 1}}}b@@{{ '}}' }}@@{{ '%}' }}@@{% if '%}' %}x{% endif %}@@{{ "{{" }}@@{{-n-}}@@a {{- n -}} b@@a {{+ n }} b@@  {% if t %}
  x
  {% endif %}
y@@  {%+ if t %}
  x
  {%- endif +%}
y@@a
  {%- if t -%}
  x
  {%- endif -%}
  b@@a  {% if t %}  b  {% endif %}  c@@{% if t %}
a
{% endif %}
b@@{{ n }}
{{ n }}
@@{{ n }}

@@	{% if t %}tab{% endif %}@@a{# c #}
b@@  {# c #}  
b@@a
    {#- c -#}
    b@@ {{ n }} @@

{% if t %}

x

{% endif %}

@@ {% if t %} {% endif %} x@@x {% if t %}
{% endif %}
  {% if t %}
{% endif %}y@@{% for i in l %}
  {{ i }}
{% endfor %}
end@@{% for i in l -%}
  {{ i }}
{%- endfor %}@@{%- for i in l %}
    {{- i }}
    {%- if not loop.last %}, {% endif %}
{%- endfor %}@@a
b
  {% if t %}x{% endif %}@@{% if t -%}   x   {%- endif %}@@{{ 'a' -}}   
 b@@{{ n }}{{ n }} {{ n }}@@
{{- n }}@@ {%- if t %}x{% endif -%} @@plain@@写 {{ u }} 诗@@
@@ @@{% raw -%}
  x
{% endraw %}
y@@  {% raw %}a{% endraw %}
b@@{% set a = 1 -%}
{{ a }}@@{% set a = 1 +%}
{{ a }}@@{% if t %}{% for i in l %}{% if i > 1 %}{{ i }}{% endif %}{% endfor %}{% endif %}
@@{% for m in m %}{% if m.role == 'user' %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% elif m['role'] == 'tool' %}T{{ m.content }}{% else %}{{ raise_exception('bad ' + m.role) if false else m.role|title }}{% if m.tool_calls %}{% for c in m.tool_calls %}{{ c.function.name }}({{ c.function.arguments|tojson }}){% endfor %}{% endif %}{% endif %}{% endfor %}
"""


# What Farseek refuses and Jinja does not.
REFUSED = ["{{ l|items }}", "{{ no|items }}", "{{ 's'|attr('upper') }}", "{{ d.items() == d.items() }}", "{{ 1 is sameas 1 }}", "{{ d.items }}",
           "{{ lipsum }}", "{{ cycler }}", "{{ self }}", "{{ s[] }}", "{{ s[1,2] }}", "{{ 0x1f }}", "{{ 99999999999999999999 }}",
           "{% for i in l recursive %}{{ i }}{% endfor %}", "{% raw %}", "{% block a %}x{% endblock %}", "{% autoescape true %}x{% endautoescape %}"]


def cases():
    out = []
    text = E.strip("\n").replace("\\\\", "\\")
    items = [x.strip() for x in text.replace("\\\n", "\x00").replace("\n", ";").split(";")]
    for x in items:
        out.append("{{ " + x.replace("\x00", "\\\n") + " }}")
    out += B.strip("\n").split("@@")
    seen = set()
    return [t for t in out if not (t in seen or seen.add(t))]


def main():
    outdir, templates = sys.argv[1], sys.argv[2]
    rows = []
    for t in cases():
        r = render(t, VARS)
        rows.append([t, None, 1] if t in REFUSED and r is not None else [t] if r is None else [t, r])
    assert all(any(t == r[0] and len(r) == 3 for r in rows) for t in REFUSED)
    json.dump({"jinja2": jinja2.__version__, "vars": VARS, "cases": rows}, open(f"{outdir}/jinja_cases.json", "w"), separators=(",", ":"), ensure_ascii=True)
    print(len(rows), "cases,", sum(len(r) == 1 for r in rows), "refused")
    conv = conversations()
    names = ["chatml", "qwen2", "qwen3", "smollm2", "deepseek-v3", "deepseek-r1"]
    write(f"{outdir}/jinja_templates.json", {n: open(f"{templates}/{n}.jinja", newline="").read() for n in names}, conv)
    if len(sys.argv) > 3:
        folder = sys.argv[3]
        more = {n: open(f"{folder}/{n}", newline="").read() for n in sorted(os.listdir(folder)) if n.endswith(".jinja")}
        write(f"{outdir}/jinja_more.json", more, conv)


TEXT = ["Hi", "What is 2+2?", "写一首诗。", "line1\nline2\n", "\n\nafter newlines", "  padded  ", "emoji 😀👍🏽", '{"a": 1}', 'quote "x" & <tag>', "", "Ünïcode é",
        "tab\tend\t", "\u3000wide\u00a0", "\x1cctl\x1f", "\u200bzero", "a long sentence " * 4, "code:\n```c\nint x;\n```\n", "\r\nwin\r\n", "NUL\x00in", "<tool_response>not one", "/no_think do it", "it's"]
ANSWER = TEXT + ["<think>\nsteps\n</think>\n\nThe answer.", "steps</think>Yes", "<think>\n\n</think>\n\n", "<think>a</think>b</think>\n\nc", "<think>x<think>y\n</think>z"]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather of a place, \"now\"", "parameters": {"type": "object", "properties": {
             "city": {"type": "string", "description": "The city's name é"}, "unit": {"type": "string", "enum": ["c", "f"]}, "days": {"type": ["integer", "null"], "default": 3}},
             "required": ["city"]}, "return": {"type": "string"}}},
         {"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object", "properties": {
             "a": {"type": "number"}, "b": {"type": "array", "items": {"type": "number"}}, "o": {"type": "object", "properties": {"k": {"type": "boolean"}}}}}}}]
ARGS = [{"city": "Köln", "unit": "c"}, {"a": 1, "b": [1.5, 2, -3e20]}, {}, {"city": "x", "days": None, "deep": {"k": [True, False, {"z": ""}]}}, '{"city": "text"}', '{"a": "<>&\'"}']


def conversation(R):
    m = []
    if R.random() < .4:
        m.append({"role": "system", "content": R.choice(TEXT)})
    if R.random() < .03:
        m.append({"role": "assistant", "content": R.choice(ANSWER)})
    for _ in range(R.randint(1, 4)):
        m.append({"role": "user", "content": R.choice(TEXT)})
        if R.random() < .03:
            m[-1]["content"] = [{"type": "text", "text": R.choice(TEXT)}, {"type": "text", "text": R.choice(TEXT)}]
        if R.random() < .3:
            n = R.randint(1, 2)
            call = {"role": "assistant", "tool_calls": [{"id": "abcdef%03d" % R.randint(0, 999), "type": "function", "function": {"name": R.choice(["get_weather", "add"]), "arguments": R.choice(ARGS)}} for _ in range(n)]}
            if R.random() < .9:
                call["content"] = R.choice(ANSWER + [None] * 12)
            m.append(call)
            for c in call["tool_calls"]:
                m.append({"role": "tool", "content": R.choice(TEXT), "tool_call_id": c["id"], "name": c["function"]["name"]})
        if R.random() < .85:
            m.append({"role": "assistant", "content": R.choice(ANSWER)})
            if R.random() < .3:
                m[-1]["reasoning_content"] = R.choice(["because", "\nmany\n\nlines\n", "多步\n推理"])
        if R.random() < .05:
            m.append({"role": "system", "content": R.choice(TEXT)})
        if R.random() < .02:
            m.append({"role": "critic", "content": "?"})
    return m


def conversations():
    R, out = random.Random(7), []
    for _ in range(240):
        v = {"messages": conversation(R), "add_generation_prompt": R.random() < .8}
        if R.random() < .5:
            v["tools"] = TOOLS[: R.randint(0, 2)]
        elif R.random() < .3:
            v["tools"] = None
        if R.random() < .6:
            v["enable_thinking"] = v["thinking"] = R.random() < .6
        out.append(v)
    return out


FIXED = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def write(path, templates, conv):
    out = []
    for name, text in templates.items():
        hashes = []
        for v in conv:
            r = render(text, {"tools": None, "documents": None, **FIXED, **json.loads(json.dumps(v))})
            hashes.append(None if r is None else hashlib.sha256(r.encode("utf-8", "surrogatepass")).hexdigest()[:24])
        out.append({"name": name, "text": text, "sha256": hashes})
        print(name, sum(h is None for h in hashes), "of", len(hashes), "refused")
    json.dump({"jinja2": jinja2.__version__, "own": FIXED, "conversations": conv, "templates": out}, open(path, "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
