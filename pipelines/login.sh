# Source this in the clone's folder: it sets address and login of this clone's own Prefect server, while `make up` runs.
# Variables that are set already stay, and the login is given to no other server.
if [ -r .services/addresses.json ]; then
    own=$(sed -n 's/.*"prefect": "\([^"]*\)".*/\1/p' .services/addresses.json)/api
    export PREFECT_API_URL="${PREFECT_API_URL:-$own}"
    no_proxy="${no_proxy:-${NO_PROXY:-}}"
    [ "$no_proxy" = "*" ] || no_proxy="${no_proxy:+$no_proxy,}127.0.0.1,localhost"  # a proxy would see the login
    export no_proxy NO_PROXY="$no_proxy"
    case $PREFECT_API_URL in
    "$own" | "http://localhost:${own##*:}")
        export PREFECT_API_AUTH_STRING="${PREFECT_API_AUTH_STRING:-$(cat .services/login 2>/dev/null)}"
        ;;
    esac
    unset own
fi
