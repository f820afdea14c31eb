"""Custom components: plain JavaScript and CSS, served from here, with no outside source."""
