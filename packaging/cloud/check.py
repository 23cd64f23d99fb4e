#!/usr/bin/env python3
"""Checks a template against its cloud's own types, and prints the user data that a machine would get.

    pip install --requirement requirements.txt
    check.py aws agents.yaml | gcp Pulumi.yaml | azure agents.json   [NAME=VALUE ...]
    check.py files < USER_DATA       what it writes and runs, as JSON

Every name, every type and every choice of a resource is looked up in what the vendor publishes: Pulumi's package for Google
Cloud, and Azure's client library. For AWS, `cfn-lint` does that. NAME=VALUE sets parameters; the others get an example.
"""

import base64
import enum
import importlib
import json
import os
import re
import sys
import typing

EXAMPLES = {
    "string": "example", "securestring": "example", "int": 1, "integer": 1, "boolean": False,
    "authority": base64.b64encode(b"-----BEGIN CERTIFICATE-----\nexample\n-----END CERTIFICATE-----\n").decode(),
    "controller": "https://longshore.example.com:8441", "packages": "https://packages.example.com/longshore",
}


class Wrong(Exception):
    """What is wrong with a template."""


def example(name, kind):
    """A value for a parameter that nobody gave."""
    name = name[0].lower() + name[1:]
    if name == "packagesSha256":
        return "0" * 64
    return EXAMPLES.get(name.removesuffix("Base64"), EXAMPLES.get(kind.lower(), "example"))


# ---- types -----------------------------------------------------------------------------------------------------------


def matches(value, hint, fields, where):
    """Whether a value is what a type hint says; `fields` knows the fields of a class."""
    options = typing.get_args(hint) if typing.get_origin(hint) is typing.Union else (hint,)
    enums = [option for option in options if isinstance(option, type) and issubclass(option, enum.Enum)]
    if enums and isinstance(value, str):
        choices = [choice.value for option in enums for choice in option]
        if value not in choices:
            raise Wrong(f"{where}: {value!r} is none of {choices}")
        return
    tried = []
    for option in options:
        origin = typing.get_origin(option)
        if origin is not None and issubclass(origin, typing.Mapping) and isinstance(value, dict):
            for key, inner in value.items():
                matches(inner, typing.get_args(option)[1], fields, f"{where}.{key}")
            return
        if origin is not None and issubclass(origin, typing.Sequence) and isinstance(value, list):
            for at, inner in enumerate(value):
                matches(inner, typing.get_args(option)[0], fields, f"{where}[{at}]")
            return
        if isinstance(value, dict) and fields(option) is not None:
            return members(value, option, fields, where)
        if type(value) is option or (option is float and type(value) is int):
            return
        tried.append(getattr(option, "__name__", str(option)))
    raise Wrong(f"{where}: {value!r} is none of {tried}")


def members(value, cls, fields, where):
    """Checks an object against the fields of a class."""
    known = fields(cls)
    for name, inner in value.items():
        if name not in known:
            raise Wrong(f"{where}: there is no `{name}`, but {sorted(known)}")
        if inner is not None:
            matches(inner, known[name][0], fields, f"{where}.{name}")
    for name, (_, required) in known.items():
        if required and value.get(name) is None:
            raise Wrong(f"{where}: `{name}` is missing")


# ---- AWS: the user data alone ----------------------------------------------------------------------------------------


def aws(path, given):
    """The launch template's user data."""
    import yaml

    class Loader(yaml.SafeLoader):
        """YAML with CloudFormation's tags."""

    def tag(loader, suffix, node):
        scalar = isinstance(node, yaml.ScalarNode)
        return {suffix: loader.construct_scalar(node) if scalar else loader.construct_sequence(node, deep=True)}

    Loader.add_multi_constructor("!", tag)
    with open(path, encoding="utf-8") as file:
        template = yaml.load(file, Loader)
    values = {
        name: given.get(name, parameter.get("Default", example(name, parameter["Type"])))
        for name, parameter in template["Parameters"].items()
    }
    values["Slots"] = given.get("Slots", 2)
    for name, parameter in template["Parameters"].items():
        pattern = parameter.get("AllowedPattern")
        if pattern and not re.fullmatch(pattern, str(values[name])):
            raise Wrong(f"{name}: {values[name]!r} is not {pattern}")
    data = template["Resources"]["Template"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Sub"]
    return re.sub(r"\$\{(\w+)\}", lambda found: str(values[found[1]]), data)


# ---- Google Cloud: Pulumi's types ------------------------------------------------------------------------------------


def gcp(path, given):
    """The program's resources, and its user data."""
    import pulumi
    import yaml
    from pulumi._types import input_type_py_to_pulumi_names

    def strip(hint):
        """A type without what Pulumi wraps inputs in."""
        if typing.get_origin(hint) is typing.Union:
            kept = [strip(part) for part in typing.get_args(hint) if plain(part)]
            return typing.Union[tuple(kept)]
        args = typing.get_args(hint)
        return hint.copy_with(tuple(strip(part) for part in args)) if args else hint

    def plain(part):
        origin = typing.get_origin(part) or part
        return part is not type(None) and getattr(origin, "__name__", "") not in ("Awaitable", "Output")

    def fields(cls):
        if not isinstance(cls, type) or not cls.__name__.endswith("Args"):
            return None
        import inspect

        space = {"Output": pulumi.Output, "T": typing.TypeVar("T")}
        hints = typing.get_type_hints(cls.__init__, vars(sys.modules[cls.__module__]), space)
        names = input_type_py_to_pulumi_names(cls)
        parameters = list(inspect.signature(cls.__init__).parameters.values())[1:]
        return {
            names.get(one.name, one.name): (strip(hints[one.name]), one.default is inspect.Parameter.empty)
            for one in parameters
        }

    def of(token):
        package, module, name = token.split(":")
        return importlib.import_module(f"pulumi_{package}.{module}"), name

    with open(path, encoding="utf-8") as file:
        program = yaml.safe_load(file)
    known = {
        name: given.get(name, option.get("default", example(name, option["type"])))
        for name, option in program["config"].items()
    }

    def lookup(expression):
        name, _, attribute = expression.partition(".")
        if not attribute and name in known:
            return known[name]
        if not attribute and name in program["variables"]:
            return resolve(program["variables"][name])
        if name in program["resources"]:
            module, cls = of(program["resources"][name]["type"])
            snake = re.sub(r"(?<!^)(?=[A-Z])", "_", attribute).lower()
            if isinstance(getattr(getattr(module, cls), snake, None), property):
                return f"[{expression}]"
        raise Wrong(f"`${{{expression}}}` names nothing")

    def resolve(value):
        if isinstance(value, str):
            whole = re.fullmatch(r"\$\{([\w.]+)\}", value)
            if whole:
                return lookup(whole[1])
            return re.sub(r"\$\{([\w.]+)\}", lambda found: str(lookup(found[1])), value)
        if isinstance(value, list):
            return [resolve(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1 and next(iter(value)).startswith("fn::"):
            (function, argument), = value.items()
            argument = resolve(argument)
            if function == "fn::join":
                return argument[0].join(argument[1])
            if function == "fn::toJSON":
                return json.dumps(argument)
            if function == "fn::readFile":
                with open(os.path.join(os.path.dirname(path), argument), encoding="utf-8") as file:
                    return file.read()
            raise Wrong(f"`{function}` is not known here")
        return {key: resolve(inner) for key, inner in value.items()}

    for name, resource in program["resources"].items():
        module, cls = of(resource["type"])
        if not hasattr(module, cls):
            raise Wrong(f"{name}: there is no {resource['type']}")
        members(resolve(resource["properties"]), getattr(module, cls + "Args"), fields, name)
    for value in program["outputs"].values():
        resolve(value)
    return resolve("${userData}")


# ---- Azure: the client library's types -------------------------------------------------------------------------------


def azure(path, given):
    """The template's scale set, and its user data."""
    from azure.mgmt.compute import models

    with open(path, encoding="utf-8") as file:
        template = json.load(file)
    values = {}

    def evaluate(text):
        """An expression: calls of functions, literals, and fields of what they return."""
        tokens = re.findall(r"'(?:[^']|'')*'|-?\d+|\w+|[(),.]", text)

        def term():
            token = tokens.pop(0)
            if token[0] == "'":
                return token[1:-1].replace("''", "'")
            if re.fullmatch(r"-?\d+", token):
                return int(token)
            arguments = []
            if tokens.pop(0) != "(":
                raise Wrong(f"`{token}` is not called in {text!r}")
            while tokens[0] != ")":
                arguments.append(term())
                if tokens[0] == ",":
                    tokens.pop(0)
            tokens.pop(0)
            result = functions[token](*arguments)
            while tokens and tokens[0] == ".":
                result = result[tokens[1]]
                del tokens[:2]
            return result

        result = term()
        if tokens:
            raise Wrong(f"`{' '.join(tokens)}` is too much in {text!r}")
        return result

    def resolve(value):
        if isinstance(value, str) and value.startswith("[") and value.endswith("]"):
            return evaluate(value[1:-1])
        if isinstance(value, list):
            return [resolve(inner) for inner in value]
        if isinstance(value, dict):
            pairs = ((resolve(key), resolve(inner)) for key, inner in value.items())
            return {key: inner for key, inner in pairs if inner is not None}
        return value

    functions = {
        "parameters": lambda name: values[name],
        "variables": lambda name: resolve(template["variables"][name]),
        "format": lambda text, *args: re.sub(r"\{(\d+)\}", lambda found: str(args[int(found[1])]), text),
        "concat": lambda *parts: "".join(parts),
        "string": json.dumps,
        "base64": lambda text: base64.b64encode(text.encode()).decode(),
        "if": lambda when, one, other: one if when else other,
        "equals": lambda one, other: one == other,
        "createObject": lambda *pairs: dict(zip(pairs[::2], pairs[1::2])),
        "null": lambda: None,
        "resourceGroup": lambda: {"location": "westeurope"},
    }
    for name, parameter in template["parameters"].items():
        default = resolve(parameter.get("defaultValue", example(name, parameter["type"])))
        value = given.get(name, default)
        values[name] = int(value) if parameter["type"] == "int" else value
        if value not in parameter.get("allowedValues", [value]):
            raise Wrong(f"{name}: {value!r} is none of {parameter['allowedValues']}")

    def fields(cls):
        if not isinstance(cls, type) or cls.__module__ != models.VirtualMachineScaleSet.__module__:
            return None
        found = {}
        for base in reversed(cls.__mro__):
            hints = typing.get_type_hints(base, localns={"_models": models}) if base.__module__ == cls.__module__ else {}
            for name, hint in hints.items():
                field = vars(base).get(name)
                if type(field).__name__ == "_RestField" and field._visibility != ["read"]:
                    optional = type(None) in typing.get_args(hint)
                    found[field._rest_name_input or name] = (hint, not optional)
        return found

    (resource,) = resolve(template["resources"])
    outside = {key: resource.pop(key) for key in ("type", "apiVersion", "name")}
    if outside["type"] != "Microsoft.Compute/virtualMachineScaleSets":
        raise Wrong(f"{outside['type']} is not known here")
    members(resource, models.VirtualMachineScaleSet, fields, "scaleSet")
    resolve(template["outputs"])
    return base64.b64decode(resource["properties"]["virtualMachineProfile"]["osProfile"]["customData"]).decode()


def main():
    """Reads the arguments."""
    if sys.argv[1:] == ["files"]:
        import yaml

        print(json.dumps(yaml.safe_load(sys.stdin)))
        return
    cloud, path, *given = sys.argv[1:]
    try:
        print(globals()[cloud](path, dict(one.split("=", 1) for one in given)), end="")
    except Wrong as wrong:
        sys.exit(f"{path}: {wrong}")


main()
