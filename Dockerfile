# The three programs in one small image: taskyard-dispatcher, taskyard-worker, taskyard.
# A worker for programs of yours: an image FROM this one (or COPY --from it) with them and a handlers file.
ARG BUILD_IMAGE=rust:1.95-slim-trixie
ARG BASE_IMAGE=debian:trixie-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
RUN CARGO_INCREMENTAL=0 cargo build --release --locked --bins \
        --package taskyard-dispatcher --package taskyard-worker --package taskyard-producer \
    && mkdir /programs \
    && for program in taskyard-dispatcher taskyard-worker taskyard; do \
        strip -o /programs/$program target/release/$program; \
    done

FROM ${BASE_IMAGE}
# For amqps:// and rediss://.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /programs/ /usr/local/bin/
# A number, so that a supervisor can see that it is not root.
USER 10001:10001
CMD ["taskyard", "--help"]
