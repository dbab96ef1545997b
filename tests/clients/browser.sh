#!/bin/sh
# Stands where programs look for the user's browser ($BROWSER): notes the page that a program opens and returns at once.
printf '%s\n' "$1" >>"${OPENED_PAGES:?}"
