// SPDX-License-Identifier: Apache-2.0
// A mesh in a sandbox: this build's programs on a cgroup of its own, tables written by hand, and sockets to try it
// with.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/address.hpp"
#include "base/fd.hpp"
#include "datapath/loader.hpp"
#include "mesh_reasons.h"
#include "tests/support/sandbox.hpp"

namespace mesh::test {

/// "127.0.0.1:80", "[::1]:80"; a wrong one ends the test process.
base::SocketAddress at(std::string_view text);

/// The key of a frontend in the kernel's form.
mesh_frontend_key key_of(const base::SocketAddress& address, std::uint8_t protocol);

struct RangeSpec {
  std::uint8_t algorithm = MESH_ROUND_ROBIN;
  std::uint8_t hash_key = MESH_KEY_NAMESPACE;
  std::uint32_t affinity_timeout_s = 0;
  std::uint16_t flags = 0;  ///< MESH_RANGE_*
};

/// Writes tables by hand, each service with its own slots. Backends get their ids in the order they are named.
class Tables {
 public:
  explicit Tables(datapath::MapStore& store) : store_(store) {}

  std::uint32_t add_backend(std::uint32_t service_id, const base::SocketAddress& address,
                            std::uint32_t flags = MESH_BACKEND_USABLE);
  void set_backend_flags(std::uint32_t backend_id, std::uint32_t flags);
  void set_backend_weight(std::uint32_t backend_id, std::uint16_t weight);
  /// Publishes a service with these backends, each once (alias tables: equal shares).
  std::uint32_t add_service(const base::SocketAddress& frontend, std::uint8_t protocol,
                            const std::vector<base::SocketAddress>& backends, RangeSpec spec = {});
  /// A new range for a service; the old one is left to its readers.
  void publish(std::uint32_t service_id, const std::vector<std::uint32_t>& backend_ids, RangeSpec spec = {});
  /// A range from explicit alias entries; weighted random, if `spec` has another kind of table.
  void publish_alias(std::uint32_t service_id, const std::vector<mesh_slot>& slots, RangeSpec spec = {});
  void publish_empty(std::uint32_t service_id);
  void remove_frontend(const base::SocketAddress& frontend, std::uint8_t protocol);

  std::vector<std::uint32_t> backends_of(std::uint32_t service_id) const;

 private:
  void publish_slots(std::uint32_t service_id, const std::vector<mesh_slot>& slots, std::uint32_t count,
                     RangeSpec spec);

  datapath::MapStore& store_;
  std::uint32_t next_service_ = 1;
  std::uint32_t next_backend_ = 1;
  std::uint32_t next_range_ = MESH_RANGE_EMPTY + 1;
  std::uint32_t next_slot_ = 0;
  std::uint32_t generation_ = 0;
};

/// A TCP or UDP server socket on loopback.
struct Server {
  base::Fd fd;
  base::SocketAddress address;
};
Server tcp_server(const std::string& ip = "127.0.0.1", std::uint16_t port = 0);  ///< Port 0: any.
Server udp_server(const std::string& ip = "127.0.0.1");

/// Thin calls that return errno (0: success).
base::Fd open_socket(int family, int type, int protocol = 0);
/// On an AF_INET6 socket an IPv4 address is given as v4-mapped.
int connect_to(const base::Fd& fd, const base::SocketAddress& address);
int disconnect(const base::Fd& fd);               ///< connect(AF_UNSPEC)
base::SocketAddress peer_of(const base::Fd& fd);  ///< getpeername; port 0 on error
int send_to(const base::Fd& fd, const base::SocketAddress& address, std::string_view text);
struct Datagram {
  std::string text;
  base::SocketAddress from;
  int error = 0;
};
Datagram receive(const base::Fd& fd, int timeout_ms = 2000);

class MeshTest : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  /// Opens (or opens again) the mesh; `change` may alter the options first.
  void open(const std::function<void(datapath::DatapathOptions&)>& change = {});
  datapath::DatapathOptions options() const;
  std::uint64_t reason(std::uint32_t which) const;
  mesh_service_live live(std::uint32_t service_id) const;
  std::uint64_t opened(std::uint32_t backend_id) const;
  std::uint64_t owners() const;     ///< Records in the owner map.
  std::string owner_texts() const;  ///< One line each.

  std::unique_ptr<Sandbox> sandbox_;
  std::unique_ptr<datapath::Datapath> mesh_;
  std::unique_ptr<Tables> tables_;
};

}  // namespace mesh::test
