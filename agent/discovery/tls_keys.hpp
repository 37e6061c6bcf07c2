// SPDX-License-Identifier: Apache-2.0
// How a client of a registry speaks TLS: its keys in the configuration.
#pragma once

#include <string>

#include "discovery/keys.hpp"
#include "http/fetch.hpp"

namespace mesh::discovery {

struct TlsFiles {
  std::string ca_file;      ///< PEM; empty: the system's trust store.
  std::string certificate;  ///< PEM of this client; empty: none.
  std::string key;
  std::string server_name;  ///< To ask for and to verify; empty: the host that is connected to.
  bool verify = true;
  bool operator==(const TlsFiles&) const = default;
};

extern const Table kTlsFilesTable;  // TlsFiles

http::FetchTls fetch_tls(const TlsFiles& files);

}  // namespace mesh::discovery
