#!/bin/sh
# A function between the two: it sees plain Secrets, and moves the database to another namespace.
sed 's/@database\.shop\.svc/@database.data.svc/'
