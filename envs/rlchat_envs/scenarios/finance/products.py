"""A bank's products, drawn anew for every episode, as sheets and as a graph."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import numpy as np

from rlchat_envs.knowledge import Document, Triple
from rlchat_envs.knowledge.triples import ALSO_CALLED

PRODUCTS, FUNDS, BANKS = 12, 7, 4
OF_FUNDS = ("cost", "minimum", "class", "custodian", "manager")
OF_ACCOUNTS = ("interest", "minimum", "notice")
_MINIMUMS = (10, 20, 25, 30, 40, 50, 60, 75, 80, 100, 120, 150, 200, 250, 300, 400, 500, 600, 750)
_NOTICES = (2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 18, 24, 30, 36, 48, 60)  # months

_DRAWN: Mapping[str, Callable[[np.random.Generator, Mapping[str, Sequence[str]]], str]] = {
    "cost": lambda rng, names: f"{rng.integers(5, 200) / 100:.2f}%",
    "interest": lambda rng, names: f"{rng.integers(20, 480) / 100:.2f}%",
    "minimum": lambda rng, names: (
        f"{_one(_MINIMUMS, rng) * (10 if rng.random() < 0.3 else 1)} euros"
    ),
    "notice": lambda rng, names: f"{_one(_NOTICES, rng)} months",
    "class": lambda rng, names: str(rng.integers(1, 8)),
    "custodian": lambda rng, names: f"{_one(names['banks'], rng)} Bank",
    "manager": lambda rng, names: f"{_one(names['first'], rng)} {_one(names['last'], rng)}",
    "country": lambda rng, names: _one(names["countries"], rng),
}


@dataclass(frozen=True, slots=True)
class Product:
    """Something the bank sells; ``values`` words what is so of it, by relation."""

    name: str
    values: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class House:
    """All products, and the countries of the banks that keep the funds."""

    products: tuple[Product, ...]
    countries: Mapping[str, str]

    def value(self, product: Product, relation: str) -> str:
        """What is so of a product; its country is that of its custodian bank."""
        if relation == "country":
            return self.countries[product.values["custodian"]]
        return product.values[relation]

    @property
    def answerable(self) -> tuple[tuple[str, Product], ...]:
        """Everything that can be asked: relations with the products that have them."""
        told = [(relation, p) for p in self.products for relation in p.values]
        return (*told, *(("country", p) for p in self.products if "custodian" in p.values))

    @property
    def documents(self) -> tuple[Document, ...]:
        """A sheet for each product, and one for each bank that keeps some."""
        texts = {p.name: product_sheet(p) for p in self.products}
        texts |= {bank: self.bank_sheet(bank) for bank in self.countries}
        return tuple(
            Document(title, text, f"sheet {n}") for n, (title, text) in enumerate(texts.items(), 1)
        )

    @property
    def triples(self) -> tuple[Triple, ...]:
        """The same facts, one by one."""
        labels = {name: str(known["label"]) for name, known in load_facts()["relations"].items()}
        found = [
            Triple(p.name, labels[relation], value, "products")
            for p in self.products
            for relation, value in p.values.items()
        ]
        found += [Triple(p.name, ALSO_CALLED, p.name.split()[0], "products") for p in self.products]
        banks = self.countries.items()
        return (*found, *(Triple(b, labels["country"], c, "banks") for b, c in banks))

    def bank_sheet(self, bank: str) -> str:
        """What the desk's papers say of a bank."""
        kept = [f"the {p.name}" for p in self.products if p.values.get("custodian") == bank]
        text: str = load_facts()["sheets"]["bank"]
        return text.format(name=bank, funds=_listed(kept), country=self.countries[bank])


def product_sheet(product: Product) -> str:
    """What the desk's papers say of a product."""
    kind = "fund" if "cost" in product.values else "account"
    text: str = load_facts()["sheets"][kind]
    return text.format(name=product.name, **product.values)


def draw_house(split: str, rng: np.random.Generator) -> House:
    """Draw products with names of one side of the split, and everything about them."""
    data = load_facts()
    names = data["names"][split]
    words = rng.choice(names["products"], PRODUCTS, replace=False)
    banks = [f"{name} Bank" for name in rng.choice(names["banks"], BANKS, replace=False)]
    homes = rng.choice(names["countries"], BANKS, replace=False)
    products = []
    for i, word in enumerate(words):
        kind, has = ("funds", OF_FUNDS) if i < FUNDS else ("accounts", OF_ACCOUNTS)
        values = {relation: draw_value(relation, split, rng) for relation in has}
        if "custodian" in values:
            values["custodian"] = _one(banks, rng)
        products.append(Product(f"{word} {_one(data[kind], rng)}", values))
    keep = {p.values.get("custodian") for p in products}
    countries = {b: str(c) for b, c in zip(banks, homes, strict=True) if b in keep}
    return House(tuple(products), countries)


def draw_value(relation: str, split: str, rng: np.random.Generator) -> str:
    """Something that could be so, by a relation."""
    return _DRAWN[relation](rng, load_facts()["names"][split])


@cache
def load_facts() -> Mapping[str, Any]:
    """Names, relations and wordings."""
    text = resources.files(__package__).joinpath("facts.toml").read_text("utf-8")
    return tomllib.loads(text)


def _one(of: Sequence[Any], rng: np.random.Generator) -> Any:
    return of[int(rng.integers(len(of)))]


def _listed(names: Sequence[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last
