"""`fairlead keys`: tenants, their keys, their limits, and what they used."""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from fairlead.cli import tenant_database
from fairlead.model import ConfigError
from fairlead.policies.registry import suggest
from fairlead.store.periods import DAY_S, date_of, day_of
from fairlead.store.tenant import SETTINGS, Key, Role, Tenant

if TYPE_CHECKING:
    from fairlead.store.database import Database

EXAMPLE = """\
examples:
  fairlead keys create acme --fleet fleet.toml --set requests_per_minute=600
  fairlead keys create acme --fleet fleet.toml --label ci --expires 30d
  fairlead keys list --fleet fleet.toml
  fairlead keys set acme --fleet fleet.toml max_output_tokens=1024 tiers=interactive,batch
  fairlead keys revoke 3f9c0a5be217 --fleet fleet.toml
  fairlead keys usage acme --fleet fleet.toml --days 7 --by day

A tenant is made with its first key. A running gateway hears of every change within a second.
"""
SETTINGS_HELP = "settings of a tenant, as KEY=VALUE; KEY= goes back to the default:\n" + "\n".join(
    f"  {field.name}" for field in SETTINGS
)
UNITS_S = {"h": 3600, "d": DAY_S, "w": 7 * DAY_S}


def add_parser(subparsers: Any) -> None:
    parser = subparsers.add_parser(
        "keys",
        help="tenants: their keys, limits and usage",
        description="Makes, lists and revokes the keys of tenants; sets what a tenant may do; "
        "says what was used.",
        epilog=EXAMPLE + "\n" + SETTINGS_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    def add(name: str, help: str, run: Callable[[argparse.Namespace, Database], int]) -> Any:
        action = actions.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=EXAMPLE + "\n" + SETTINGS_HELP,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        tenant_database.add_arguments(action)
        action.add_argument("--json", action="store_true", help="as JSON")
        action.set_defaults(action_run=run)
        return action

    create = add("create", "make a key, which is shown this once", _create)
    create.add_argument("tenant", metavar="TENANT")
    create.add_argument(
        "--set",
        dest="settings",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="a setting of the tenant; may be given again",
    )
    create.add_argument("--role", choices=[role.value for role in Role], default="user")
    create.add_argument("--label", default="", help="what it is for, in your words")
    create.add_argument("--expires", metavar="TIME", help="after such as 12h, 30d or 8w")
    list_keys = add("list", "list keys", _list)
    list_keys.add_argument("tenant", metavar="TENANT", nargs="?")
    list_keys.add_argument("--all", action="store_true", help="revoked and expired ones too")
    revoke = add("revoke", "make keys useless from now on", _revoke)
    revoke.add_argument("ids", metavar="ID", nargs="+", help="as in `keys list`")
    set_tenant = add("set", "change what a tenant may do", _set)
    set_tenant.add_argument("tenant", metavar="TENANT")
    set_tenant.add_argument("settings", metavar="KEY=VALUE", nargs="+")
    show = add("show", "show tenants and what they may do", _show)
    show.add_argument("tenant", metavar="TENANT", nargs="?")
    usage = add("usage", "show what was used, to the token", _usage)
    usage.add_argument("tenant", metavar="TENANT", nargs="?")
    usage.add_argument("--days", type=int, default=30, help="today among them; default 30")
    usage.add_argument(
        "--by",
        type=_groups,
        default=["tenant", "model"],
        help="some of tenant, key, model, day; default tenant,model",
    )


def run(args: argparse.Namespace) -> int:
    database = tenant_database.database_of(args)
    try:
        status: int = args.action_run(args, database)
        return status
    finally:
        database.close()


# ---------------------------------------------------------------- actions


def _create(args: argparse.Namespace, database: Database) -> int:
    from fairlead.store.tenants import Tenants

    now_s = time.time()
    tenants = Tenants(database)
    settings, role = read_settings(args.settings), Role(args.role)
    expires_s = None if args.expires is None else now_s + _seconds(args.expires)
    known = [tenant.name for tenant in tenants.tenants()]
    if settings or args.tenant not in known:
        tenants.put(args.tenant, settings, now_s)
        if args.tenant not in known:
            print(f"{args.tenant} is a new tenant", file=sys.stderr)
    secret, key = tenants.create_key(
        args.tenant, now_s, role=role, label=args.label, expires_s=expires_s
    )
    if args.json:
        print(json.dumps({**_key_facts(key), "key": secret}))
    else:
        print(
            f"key {key.id} of {key.tenant} ({role.value}); it is not shown again:", file=sys.stderr
        )
        print(secret)
    return 0


def _list(args: argparse.Namespace, database: Database) -> int:
    from fairlead.store.tenants import Tenants

    tenants, now_s = Tenants(database), time.time()
    if args.tenant is not None:
        tenants.tenant(args.tenant)
    keys = [key for key in tenants.keys(args.tenant) if args.all or key.is_valid(now_s)]
    if args.json:
        print(json.dumps([_key_facts(key) for key in keys], indent=2))
        return 0
    rows = [
        (k.id, k.tenant, k.role.value, k.label, _date(k.created_s), _state(k, now_s)) for k in keys
    ]
    _print(("id", "tenant", "role", "label", "created", "state"), rows, "no keys")
    return 0


def _revoke(args: argparse.Namespace, database: Database) -> int:
    from fairlead.store.tenants import Tenants

    keys = Tenants(database).revoke(args.ids, time.time())
    if args.json:
        print(json.dumps([key.id for key in keys]))
    else:
        for key in keys:
            print(f"revoked {key.id} of {key.tenant}")
    return 0


def _set(args: argparse.Namespace, database: Database) -> int:
    from fairlead.store.tenants import Tenants

    tenants = Tenants(database)
    tenants.tenant(args.tenant)
    tenant = tenants.put(args.tenant, read_settings(args.settings), time.time())
    _print_tenants([tenant], args.json)
    return 0


def _show(args: argparse.Namespace, database: Database) -> int:
    from fairlead.store.tenants import Tenants

    tenants = Tenants(database)
    found = [tenants.tenant(args.tenant)] if args.tenant is not None else tenants.tenants()
    _print_tenants(found, args.json)
    return 0


def _usage(args: argparse.Namespace, database: Database) -> int:
    from fairlead.store.tenants import Tenants
    from fairlead.store.usage import SUMS, Usage

    if args.tenant is not None:
        Tenants(database).tenant(args.tenant)
    if args.days < 1:
        raise ConfigError(f"--days must be at least 1, got {args.days}")
    first = max(day_of(time.time()) - args.days + 1, 0)
    rows = Usage(database).totals(args.by, args.tenant, first)
    for row in rows:
        if "day" in row:
            row["day"] = date_of(int(row["day"]))
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    names = (*args.by, *SUMS)
    shown = [tuple(f"{v:,}" if isinstance(v := row[n], int) else v for n in names) for row in rows]
    heads = tuple(n.removesuffix("_id").replace("_", " ") for n in names)
    _print(heads, shown, f"nothing was used in {args.days} days", n_right=len(SUMS))
    return 0


# ---------------------------------------------------------------- reading and showing


def read_settings(words: Sequence[str]) -> dict[str, Any]:
    """`weight=2 models=a,b` as settings of a tenant; None is the default."""
    kinds = {field.name: field for field in SETTINGS}
    found: dict[str, Any] = {}
    for word in words:
        name, sign, text = word.partition("=")
        if not sign:
            raise ConfigError(f"{word!r} is not KEY=VALUE, such as weight=2")
        if name not in kinds:
            raise ConfigError(f"a tenant has no setting {name!r}{suggest(name, list(kinds))}")
        found[name] = None if not text else _value(text, kinds[name].default)
    return found


def _value(text: str, default: object) -> Any:
    if isinstance(default, tuple):
        return [part for part in text.split(",") if part]
    if isinstance(default, str):
        return text
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # Told to be of the wrong kind, with all else that is wrong.


def _groups(text: str) -> list[str]:
    names = {"tenant": "tenant", "key": "key_id", "model": "model", "day": "day"}
    for name in text.split(","):
        if name not in names:
            raise argparse.ArgumentTypeError(f"{name!r} is none of tenant, key, model, day")
    return [names[name] for name in dict.fromkeys(text.split(","))]


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d{1,6})([hdw])", text)
    if match is None or int(match[1]) == 0:
        raise ConfigError(f"--expires {text!r} is no time; write such as 12h, 30d or 8w")
    return int(match[1]) * UNITS_S[match[2]]


def _key_facts(key: Key) -> dict[str, Any]:
    facts = {field.name: getattr(key, field.name) for field in fields(Key)}
    del facts["digest"]
    return {**facts, "role": key.role.value}


def _state(key: Key, now_s: float) -> str:
    if key.revoked_s is not None:
        return f"revoked {_date(key.revoked_s)}"
    if key.expires_s is None:
        return "valid"
    return ("until " if now_s < key.expires_s else "expired ") + _date(key.expires_s)


def _date(time_s: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(time_s))


def _print_tenants(tenants: Sequence[Tenant], as_json: bool) -> None:
    if as_json:
        print(json.dumps([{"name": t.name, **t.settings()} for t in tenants], indent=2))
        return
    rows = [
        (t.name, "  ".join(f"{k}={_said(v)}" for k, v in t.settings().items()) or "no limits")
        for t in tenants
    ]
    _print(("tenant", "settings"), rows, "no tenants")


def _said(value: object) -> str:
    if isinstance(value, tuple):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print(
    heads: Sequence[str], rows: Sequence[Sequence[str]], nothing: str, n_right: int = 0
) -> None:
    if not rows:
        print(nothing)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, head in enumerate(heads):
        right = i >= len(heads) - n_right
        table.add_column(head, justify="right" if right else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
