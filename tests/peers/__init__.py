"""Servers by other hands, from npm: installed once into a cache outside the tree."""
