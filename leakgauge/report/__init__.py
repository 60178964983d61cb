"""How results look: the figures, the gallery of exposed members and the page that holds them.  No torch."""
