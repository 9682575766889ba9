"""How definitions look in the syntax tree of each language: data for `code`; parses nothing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

CLASS: Final = "class"
MODULE: Final = "module"


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


def _scopes(*, classes: str = "", modules: str = "") -> Mapping[str, str]:
    return dict.fromkeys(classes.split(), CLASS) | dict.fromkeys(modules.split(), MODULE)


@dataclass(frozen=True, slots=True)
class Syntax:
    """The names of a grammar's nodes that matter.

    `functions` are cut out whole; `scopes` (a class, a namespace, each with what its own lines are) have definitions of their own; `wrappers`
    belong to the definition in them, such as decorators and `export`; `entered` may hold definitions without being part of them; `bound` has a
    name in one field and a value in another, and is a definition if the value is one of `values`.
    """

    package: str
    functions: frozenset[str]
    scopes: Mapping[str, str]
    entered: frozenset[str]
    wrappers: frozenset[str] = frozenset()
    bound: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    values: frozenset[str] = frozenset()
    grammar: str = "language"


PYTHON: Final = Syntax(
    "tree_sitter_python",
    functions=_set("function_definition"),
    scopes=_scopes(classes="class_definition"),
    entered=_set(
        "block if_statement elif_clause else_clause try_statement except_clause finally_clause with_statement for_statement while_statement ERROR"
    ),
    wrappers=_set("decorated_definition"),
)
_JS_ENTERED: Final = _set("statement_block if_statement else_clause try_statement catch_clause finally_clause ERROR")
_JS_WRAPPERS: Final = _set("export_statement lexical_declaration variable_declaration expression_statement")
_JS_VALUES: Final = _set("arrow_function function_expression generator_function class")
JAVASCRIPT: Final = Syntax(
    "tree_sitter_javascript",
    functions=_set("function_declaration generator_function_declaration method_definition"),
    scopes=_scopes(classes="class_declaration class"),
    entered=_JS_ENTERED,
    wrappers=_JS_WRAPPERS,
    bound={"variable_declarator": ("name", "value"), "assignment_expression": ("left", "right"), "field_definition": ("property", "value")},
    values=_JS_VALUES,
)
TYPESCRIPT: Final = Syntax(
    "tree_sitter_typescript",
    functions=_set(
        "function_declaration generator_function_declaration method_definition function_signature method_signature abstract_method_signature "
        "type_alias_declaration"
    ),
    scopes=_scopes(
        classes="class_declaration abstract_class_declaration class interface_declaration enum_declaration", modules="internal_module module"
    ),
    entered=_JS_ENTERED,
    wrappers=_JS_WRAPPERS | {"ambient_declaration"},
    bound={"variable_declarator": ("name", "value"), "assignment_expression": ("left", "right"), "public_field_definition": ("name", "value")},
    values=_JS_VALUES,
    grammar="language_typescript",
)
TSX: Final = replace(TYPESCRIPT, grammar="language_tsx")
_C_ENTERED: Final = _set("preproc_if preproc_ifdef preproc_else preproc_elif linkage_specification declaration_list ERROR")
C: Final = Syntax(
    "tree_sitter_c",
    functions=_set("function_definition preproc_function_def"),
    scopes=_scopes(classes="struct_specifier union_specifier enum_specifier"),
    entered=_C_ENTERED,
    wrappers=_set("type_definition"),
)
CPP: Final = Syntax(
    "tree_sitter_cpp",
    functions=_set("function_definition preproc_function_def concept_definition alias_declaration"),
    scopes=_scopes(classes="class_specifier struct_specifier union_specifier enum_specifier", modules="namespace_definition"),
    entered=_C_ENTERED,
    wrappers=_set("type_definition template_declaration"),
)
RUST: Final = Syntax(
    "tree_sitter_rust",
    functions=_set("function_item function_signature_item macro_definition type_item"),
    scopes=_scopes(classes="impl_item trait_item struct_item enum_item union_item", modules="mod_item"),
    entered=_set("foreign_mod_item declaration_list ERROR"),
)
GO: Final = Syntax(
    "tree_sitter_go",
    functions=_set("function_declaration method_declaration"),
    scopes=_scopes(classes="type_spec type_alias"),
    entered=_set("ERROR"),
    wrappers=_set("type_declaration"),
)
JAVA: Final = Syntax(
    "tree_sitter_java",
    functions=_set("method_declaration constructor_declaration compact_constructor_declaration"),
    scopes=_scopes(classes="class_declaration interface_declaration enum_declaration record_declaration annotation_type_declaration"),
    entered=_set("enum_body_declarations ERROR"),
)
BASH: Final = Syntax(
    "tree_sitter_bash",
    functions=_set("function_definition"),
    scopes={},
    entered=_set("if_statement else_clause elif_clause compound_statement list ERROR"),
)
RUBY: Final = Syntax(
    "tree_sitter_ruby",
    functions=_set("method singleton_method"),
    scopes=_scopes(classes="class", modules="module"),
    entered=_set("body_statement singleton_class if then else unless begin ERROR"),
)
PHP: Final = Syntax(
    "tree_sitter_php",
    functions=_set("function_definition method_declaration"),
    scopes=_scopes(classes="class_declaration interface_declaration trait_declaration enum_declaration", modules="namespace_definition"),
    entered=_set("compound_statement if_statement else_clause ERROR"),
    grammar="language_php",
)
C_SHARP: Final = Syntax(
    "tree_sitter_c_sharp",
    functions=_set("method_declaration constructor_declaration local_function_statement delegate_declaration property_declaration"),
    scopes=_scopes(
        classes="class_declaration struct_declaration interface_declaration record_declaration enum_declaration", modules="namespace_declaration"
    ),
    entered=_set("global_statement ERROR"),
)

# By the names that a search is limited by.
SUFFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "bash": (".sh", ".bash"),
    "c": (".c", ".h"),
    "cpp": (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".ipp", ".cu", ".cuh", ".h"),
    "csharp": (".cs",),
    "go": (".go",),
    "java": (".java",),
    "javascript": (".js", ".mjs", ".cjs", ".jsx"),
    "markdown": (".md", ".markdown", ".mdx"),
    "php": (".php",),
    "python": (".py", ".pyi", ".pyw"),
    "ruby": (".rb", ".rake"),
    "rust": (".rs",),
    "typescript": (".ts", ".mts", ".cts", ".tsx"),
}
_SYNTAXES: Final = {
    **{"bash": BASH, "cpp": CPP, "c": C, "csharp": C_SHARP, "go": GO, "java": JAVA, "javascript": JAVASCRIPT},
    **{"php": PHP, "python": PYTHON, "ruby": RUBY, "rust": RUST, "typescript": TYPESCRIPT},
}
BY_SUFFIX: Final[Mapping[str, Syntax]] = {
    **{suffix: syntax for name, syntax in _SYNTAXES.items() for suffix in SUFFIXES[name]},
    ".h": C,
    ".tsx": TSX,
}
_BY_INTERPRETER: Final[Mapping[str, Syntax]] = {"python": PYTHON, "sh": BASH, "bash": BASH, "node": JAVASCRIPT, "ruby": RUBY, "php": PHP}
# Many headers of C++ are called as those of C are.
_IS_CPP: Final = re.compile(r"^\s*(?:namespace\b|template\s*<|class\s+\w+|public:|private:|using\s+\w+\s*=)", re.MULTILINE)
_SHEBANG: Final = re.compile(r"#!\s*(?:\S*/env\s+(?:-S\s+)?)?(?:\S*/)?([a-z]+)[\d.]*\b")


def syntax_of(suffix: str, text: str) -> Syntax | None:
    """Return the syntax of a file by its suffix or, without one, by the interpreter that its first line names; None for what is no code we know."""
    if suffix == ".h" and _IS_CPP.search(text):
        return CPP
    if suffix:
        return BY_SUFFIX.get(suffix)
    named = _SHEBANG.match(text)
    return _BY_INTERPRETER.get(named[1]) if named else None
