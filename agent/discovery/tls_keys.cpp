// SPDX-License-Identifier: Apache-2.0
#include "discovery/tls_keys.hpp"

namespace mesh::discovery {
namespace {

const TlsFiles kFreshFiles{};

constexpr Key kKeys[] = {
    path_key<&TlsFiles::ca_file>("ca_file", "PEM file of trusted issuers; empty is the system's."),
    path_key<&TlsFiles::certificate>("certificate", "PEM file of the client's certificate, then its chain."),
    path_key<&TlsFiles::key>("key", "PEM file of its private key, without passphrase."),
    key<&TlsFiles::server_name>("server_name",
                                "Name to ask for and to verify; empty is the host that is connected to."),
    key<&TlsFiles::verify>("verify", "Verify the certificate's chain, name and expiry."),
};

}  // namespace

const Table kTlsFilesTable{.name = "tls", .keys = kKeys, .defaults = &kFreshFiles};

http::FetchTls fetch_tls(const TlsFiles& files) {
  return {.ca = {.file = files.ca_file, .text = ""},
          .certificate = {.file = files.certificate, .text = ""},
          .key = {.file = files.key, .text = ""},
          .server_name = files.server_name,
          .verify = files.verify};
}

}  // namespace mesh::discovery
