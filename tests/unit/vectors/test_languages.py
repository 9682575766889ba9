"""Source files of the usual languages are cut by their definitions, each named with the class or namespace that it stands in."""

import textwrap

import pytest

from federation.services.retrieval import Language
from federation.vectors.chunking import chunk_file
from federation.vectors.languages import BY_SUFFIX, SUFFIXES

# Long enough that a class is not one chunk.
LONG = "\n".join(f"    // line {number} of a long comment that says nothing at all about it" for number in range(20))
HASH = LONG.replace("//", "#")

SOURCES = {
    "a.js": (
        f"""
        import {{ x }} from "y";
        /** Opens it again. */
        export function reopen(link) {{ return link; }}
        const retry = async (link) => reopen(link);
        exports.later = function () {{ }};
        export default class Line {{
          {LONG}
          constructor() {{ }}
          // Says so.
          async send(frame) {{ return frame; }}
          ended = () => 1;
        }}
        """,
        {"reopen", "retry", "exports.later", "Line", "Line.constructor", "Line.send", "Line.ended"},
    ),
    "a.ts": (
        f"""
        namespace wire {{
          {LONG}
          export interface Frame {{ body: string }}
          export abstract class Line<T> {{
            {LONG}
            abstract open(): void;
            public send = (frame: Frame): T => frame as any;
          }}
        }}
        type Name = string;
        export const parse = (text: string): Name => text;
        """,
        {"wire", "wire.Frame", "wire.Line", "wire.Line.open", "wire.Line.send", "Name", "parse"},
    ),
    "a.tsx": ("export const View = () => <div>{1}</div>;\nfunction Page() { return <View />; }\n", {"View", "Page"}),
    "a.c": (
        """
        #include <stdio.h>
        #define SQUARE(x) ((x) * (x))
        /* A point. */
        typedef struct { int x; } point;
        struct frame { int size; };
        #ifdef POSIX
        static char **names_of(struct frame *f) { return 0; }
        #endif
        int (*handler_of(int signal))(int) { return 0; }
        """,
        {"SQUARE", "point", "frame", "names_of", "handler_of"},
    ),
    "a.cpp": (
        f"""
        namespace wire::stomp {{
        {LONG}
        template <typename T> class Line : public Base {{
          {LONG}
         public:
          Line() {{ }}
          T send(const T& frame) {{ return frame; }}
        }};
        int Line<int>::size() const {{ return 0; }}
        }}
        """,
        {"wire.stomp", "wire.stomp.Line", "wire.stomp.Line.Line", "wire.stomp.Line.send", "wire.stomp.Line<int>.size"},
    ),
    "a.h": (f"#pragma once\nnamespace wire {{\n{LONG}\nstruct Line {{ int open() {{ return 1; }} }};\n}}\n", {"wire", "wire.Line"}),
    "a.rs": (
        f"""
        /// A line.
        #[derive(Debug)]
        pub struct Line {{ size: usize }}
        impl<T> Send for Line<T> {{
            {LONG}
            fn send(&self) {{ }}
        }}
        mod inner {{ pub fn open() {{ }} }}
        macro_rules! twice {{ () => {{ }} }}
        """,
        {"Line", "Line.send", "inner.open", "twice"},
    ),
    "a.go": (
        """
        package wire
        // Line is one.
        type Line struct { size int }
        type (
            A int
            B int
        )
        // Send sends.
        func (l *Line) Send(frame []byte) error { return nil }
        func (s Set[T]) Add(one T) { }
        func Open() *Line { return nil }
        """,
        {"Line", "A", "B", "Line.Send", "Set.Add", "Open"},
    ),
    "A.java": (
        f"""
        package wire;
        @Deprecated
        public class Line {{
            {LONG}
            public Line() {{ }}
            /** Sends. */
            @Override public void send(Frame frame) {{ }}
            enum State {{ OPEN, CLOSED }}
        }}
        """,
        {"Line", "Line.Line", "Line.send", "Line.State"},
    ),
    "a.sh": ("set -e\nopen_line() {\n  true\n}\nfunction close_line { true; }\n", {"open_line", "close_line"}),
    "a.rb": (
        f"""
        module Wire
          class Line < Base
            {HASH}
            def send(frame)
              frame
            end
            def self.open; end
          end
        end
        """,
        {"Wire.Line.send", "Wire.Line.open"},
    ),
    "a.php": (
        f"""<?php
        function open_line($host) {{ return 1; }}
        class Line {{
            {LONG}
            public function send($frame) {{ }}
        }}
        """,
        {"open_line", "Line", "Line.send"},
    ),
    "a.cs": (
        f"""
        namespace Wire {{
            public class Line {{
                {LONG}
                public Line() {{ }}
                public int Send(Frame frame) {{ return 0; }}
            }}
        }}
        """,
        {"Wire.Line", "Wire.Line.Line", "Wire.Line.Send"},
    ),
    "script": ("#!/usr/bin/env python3\ndef main():\n    pass\n", {"main"}),
    "hook": ("#!/bin/sh\nrefuse() {\n  exit 1\n}\n", {"refuse"}),
}


@pytest.mark.parametrize("path", SOURCES)
def test_a_file_is_cut_by_its_definitions(path: str) -> None:
    source, expected = SOURCES[path]
    chunks = chunk_file(path, textwrap.dedent(source).encode())
    assert isinstance(chunks, list)
    assert {chunk.title for chunk in chunks} - {""} >= expected, [(chunk.kind, chunk.title) for chunk in chunks]
    kinds = {chunk.title: chunk.kind for chunk in chunks}
    assert {kinds[title] for title in expected} <= {"function", "method", "class", "module"}


@pytest.mark.parametrize("path", SOURCES)
def test_no_line_with_a_word_is_lost(path: str) -> None:
    source = textwrap.dedent(SOURCES[path][0])
    chunks = chunk_file(path, source.encode())
    assert isinstance(chunks, list)
    held = {number for chunk in chunks for number in range(chunk.start_line, chunk.end_line + 1)}
    assert {number for number, line in enumerate(source.split("\n"), start=1) if any(map(str.isalnum, line))} <= held


def test_what_is_said_right_above_a_definition_belongs_to_it() -> None:
    about = "// Says at some length what the function below is good for, in more words than a short run of lines between two others may have.\n"
    chunks = chunk_file("a.go", f"package a\n\nvar x = 1 // one\n{about}func Open() {{ }}\n\n{about}\nfunc Close() {{ }}\n".encode())
    assert isinstance(chunks, list)
    by_title = {chunk.title: chunk for chunk in chunks}
    assert by_title["Open"].text == f"{about}func Open() {{ }}"
    assert by_title["Close"].text == "func Close() { }"


@pytest.mark.parametrize("suffix", BY_SUFFIX)
def test_what_does_not_compile_is_cut_all_the_same(suffix: str) -> None:
    for source in ("}}}} (((( def class fn struct {", "words\n" * 400, "\ufeffa b c"):
        chunks = chunk_file(f"a{suffix}", source.encode())
        assert isinstance(chunks, list)
        assert chunks


def test_each_language_that_a_search_may_name_has_its_suffixes() -> None:
    assert SUFFIXES.keys() == set(Language)
    assert BY_SUFFIX.keys() == {suffix for name, suffixes in SUFFIXES.items() if name != "markdown" for suffix in suffixes}
