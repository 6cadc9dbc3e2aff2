"""How things are done, in either colour: operations as generators, and the drivers that carry them out."""
