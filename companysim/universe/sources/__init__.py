"""Where filings, prices, codes and factors come from: one module a source, none of them needed by the rest."""
