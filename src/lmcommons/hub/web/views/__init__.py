"""One module for each topic of the pages: a view asks the rooms and fills a template; it decides nothing."""
