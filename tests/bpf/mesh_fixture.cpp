// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/mesh_fixture.hpp"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "datapath/counters.hpp"
#include "datapath/owners.hpp"

namespace mesh::test {
namespace {

/// As the socket's family wants it: IPv4 on an AF_INET6 socket is v4-mapped.
socklen_t fill(const base::Fd& fd, const base::SocketAddress& address, sockaddr_storage& storage) {
  int family = 0;
  socklen_t length = sizeof(family);
  ::getsockopt(fd.get(), SOL_SOCKET, SO_DOMAIN, &family, &length);
  if (family == AF_INET) return address.to_sockaddr(storage);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(address.port);
  std::memcpy(&v6.sin6_addr, address.ip.bytes.data(), 16);
  std::memcpy(&storage, &v6, sizeof(v6));
  return sizeof(v6);
}

sockaddr* generic(sockaddr_storage& storage) { return reinterpret_cast<sockaddr*>(&storage); }

Server bind_server(int type, const std::string& ip, std::uint16_t port = 0) {
  const base::IpAddress address = *base::IpAddress::parse(ip);
  Server server{open_socket(address.is_v4() ? AF_INET : AF_INET6, type), {address, port}};
  const int over_old_connections = 1;
  ::setsockopt(server.fd.get(), SOL_SOCKET, SO_REUSEADDR, &over_old_connections, sizeof(over_old_connections));
  sockaddr_storage storage{};
  socklen_t length = fill(server.fd, server.address, storage);
  EXPECT_EQ(::bind(server.fd.get(), generic(storage), length), 0) << std::strerror(errno);
  length = sizeof(storage);
  ::getsockname(server.fd.get(), generic(storage), &length);
  server.address = base::SocketAddress::from_sockaddr(storage);
  return server;
}

}  // namespace

base::SocketAddress at(std::string_view text) { return base::SocketAddress::parse(text).value(); }

mesh_frontend_key key_of(const base::SocketAddress& address, std::uint8_t protocol) {
  mesh_frontend_key key{};
  std::memcpy(key.addr, address.ip.bytes.data(), sizeof(key.addr));
  key.port_be = htons(address.port);
  key.proto = protocol;
  return key;
}

std::uint32_t Tables::add_backend(std::uint32_t service_id, const base::SocketAddress& address, std::uint32_t flags) {
  mesh_backend backend{};
  std::memcpy(backend.addr, address.ip.bytes.data(), sizeof(backend.addr));
  backend.port_be = htons(address.port);
  backend.weight = 1;
  backend.service_id = service_id;
  backend.generation = 1;
  backend.flags = flags;
  EXPECT_TRUE(store_.write_backend(next_backend_, backend));
  return next_backend_++;
}

void Tables::set_backend_flags(std::uint32_t backend_id, std::uint32_t flags) {
  mesh_backend backend = store_.backend(backend_id);
  backend.flags = flags;
  EXPECT_TRUE(store_.write_backend(backend_id, backend));
}

void Tables::set_backend_weight(std::uint32_t backend_id, std::uint16_t weight) {
  mesh_backend backend = store_.backend(backend_id);
  backend.weight = weight;
  EXPECT_TRUE(store_.write_backend(backend_id, backend));
}

std::uint32_t Tables::add_service(const base::SocketAddress& frontend, std::uint8_t protocol,
                                  const std::vector<base::SocketAddress>& backends, RangeSpec spec) {
  const std::uint32_t id = next_service_++;
  std::vector<std::uint32_t> ids;
  for (const auto& backend : backends) ids.push_back(add_backend(id, backend));
  mesh_service service{};
  service.frontend = key_of(frontend, protocol);
  service.flags = MESH_SERVICE_IN_USE;
  EXPECT_TRUE(store_.write_service(id, service));
  if (ids.empty()) {
    publish_empty(id);
  } else {
    publish(id, ids, spec);
  }
  EXPECT_TRUE(store_.write_frontend(service.frontend, id));
  return id;
}

void Tables::publish(std::uint32_t service_id, const std::vector<std::uint32_t>& backend_ids, RangeSpec spec) {
  std::vector<mesh_slot> slots;
  for (const std::uint32_t id : backend_ids) {
    slots.push_back({id, service_id});
    if (mesh_slots_per_entry(spec.algorithm) == 2) slots.push_back({id, 0xffffffff});
  }
  publish_slots(service_id, slots, static_cast<std::uint32_t>(backend_ids.size()), spec);
}

void Tables::publish_alias(std::uint32_t service_id, const std::vector<mesh_slot>& slots, RangeSpec spec) {
  if (mesh_slots_per_entry(spec.algorithm) != 2) spec.algorithm = MESH_WEIGHTED_RANDOM;
  publish_slots(service_id, slots, static_cast<std::uint32_t>(slots.size() / 2), spec);
}

void Tables::publish_slots(std::uint32_t service_id, const std::vector<mesh_slot>& slots, std::uint32_t count,
                           RangeSpec spec) {
  mesh_range range{};
  range.base = next_slot_;
  range.count = count;
  range.service_id = service_id;
  range.seed = service_id * 7919;
  range.affinity_timeout_s = spec.affinity_timeout_s;
  range.flags = spec.flags;
  range.algorithm = spec.algorithm;
  range.hash_key = spec.hash_key;
  range.flags = spec.flags;
  EXPECT_TRUE(store_.write_slots(next_slot_, slots));
  EXPECT_TRUE(store_.write_range(next_range_, range));
  EXPECT_TRUE(store_.store_state(service_id, static_cast<std::uint64_t>(++generation_) << 32 | next_range_));
  next_slot_ += static_cast<std::uint32_t>(slots.size());
  ++next_range_;
}

void Tables::publish_empty(std::uint32_t service_id) {
  EXPECT_TRUE(store_.store_state(service_id, static_cast<std::uint64_t>(++generation_) << 32 | MESH_RANGE_EMPTY));
}

void Tables::remove_frontend(const base::SocketAddress& frontend, std::uint8_t protocol) {
  EXPECT_TRUE(store_.erase_frontend(key_of(frontend, protocol)));
}

std::vector<std::uint32_t> Tables::backends_of(std::uint32_t service_id) const {
  std::vector<std::uint32_t> ids;
  for (std::uint32_t id = 1; id < next_backend_; ++id) {
    if (store_.backend(id).service_id == service_id) ids.push_back(id);
  }
  return ids;
}

Server tcp_server(const std::string& ip, std::uint16_t port) {
  Server server = bind_server(SOCK_STREAM, ip, port);
  EXPECT_EQ(::listen(server.fd.get(), 4096), 0);
  return server;
}

Server udp_server(const std::string& ip) { return bind_server(SOCK_DGRAM, ip); }

base::Fd open_socket(int family, int type, int protocol) {
  return base::Fd(::socket(family, type | SOCK_CLOEXEC, protocol));
}

int connect_to(const base::Fd& fd, const base::SocketAddress& address) {
  sockaddr_storage storage{};
  const socklen_t length = fill(fd, address, storage);
  return ::connect(fd.get(), generic(storage), length) == 0 ? 0 : errno;
}

int disconnect(const base::Fd& fd) {
  sockaddr_storage storage{};
  storage.ss_family = AF_UNSPEC;
  return ::connect(fd.get(), generic(storage), sizeof(sockaddr_in6)) == 0 ? 0 : errno;
}

base::SocketAddress peer_of(const base::Fd& fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  if (::getpeername(fd.get(), generic(storage), &length) != 0) return {};
  return base::SocketAddress::from_sockaddr(storage);
}

int send_to(const base::Fd& fd, const base::SocketAddress& address, std::string_view text) {
  sockaddr_storage storage{};
  const socklen_t length = fill(fd, address, storage);
  return ::sendto(fd.get(), text.data(), text.size(), 0, generic(storage), length) >= 0 ? 0 : errno;
}

Datagram receive(const base::Fd& fd, int timeout_ms) {
  pollfd waiting{fd.get(), POLLIN, 0};
  Datagram datagram;
  if (::poll(&waiting, 1, timeout_ms) <= 0) {
    datagram.error = ETIMEDOUT;
    return datagram;
  }
  char buffer[2048];
  sockaddr_storage storage{};
  socklen_t length = sizeof(storage);
  const ssize_t count = ::recvfrom(fd.get(), buffer, sizeof(buffer), 0, generic(storage), &length);
  if (count < 0) {
    datagram.error = errno;
    return datagram;
  }
  datagram.text.assign(buffer, static_cast<std::size_t>(count));
  datagram.from = base::SocketAddress::from_sockaddr(storage);
  return datagram;
}

void MeshTest::SetUp() {
  if (const std::string why = Sandbox::unavailable(); !why.empty()) GTEST_SKIP() << "SKIPPED: " << why;
  sandbox_ = std::make_unique<Sandbox>();
  open();
}

void MeshTest::TearDown() {
  tables_.reset();
  mesh_.reset();
  if (sandbox_) {
    Cgroup::leave();
    if (auto done = datapath::detach_all(sandbox_->pins()); !done) {
      EXPECT_EQ(done.error().kind, base::ErrorKind::kNotFound) << done.error().to_string();
    }
  }
  sandbox_.reset();
}

datapath::DatapathOptions MeshTest::options() const {
  datapath::DatapathOptions options;
  options.directory = sandbox_->pins();
  options.cgroup_root = Cgroup::root();
  options.cgroups = {sandbox_->cgroup.path()};
  options.version = "test";
  options.sizes = {
      .services = 256, .ranges = 2048, .slots = 65536, .backends = 4096, .owners = 4096, .affinities = 1024};
  return options;
}

void MeshTest::open(const std::function<void(datapath::DatapathOptions&)>& change) {
  mesh_.reset();
  datapath::DatapathOptions wanted = options();
  if (change) change(wanted);
  auto opened = datapath::Datapath::open(std::move(wanted));
  ASSERT_TRUE(opened) << opened.error().to_string();
  mesh_ = std::move(*opened);
  if (!tables_ || mesh_->start_kind() == datapath::StartKind::kFresh)
    tables_ = std::make_unique<Tables>(mesh_->store());
}

std::uint64_t MeshTest::reason(std::uint32_t which) const {
  std::vector<std::uint64_t> counts(static_cast<std::size_t>(::libbpf_num_possible_cpus()));
  EXPECT_EQ(::bpf_map_lookup_elem(mesh_->maps().fd(datapath::Table::kReasons), &which, counts.data()), 0);
  std::uint64_t sum = 0;
  for (const std::uint64_t count : counts) sum += count;
  return sum;
}

mesh_service_live MeshTest::live(std::uint32_t service_id) const {
  const std::uint32_t shards = mesh_->maps().sizes().live_shards;
  return mesh_->maps().read<mesh_service_live>(datapath::Table::kServiceLive, service_id * shards);
}

std::uint64_t MeshTest::opened(std::uint32_t backend_id) const {
  return datapath::read_backend_live(mesh_->maps(), backend_id).opened;
}

std::uint64_t MeshTest::owners() const { return datapath::count_owners(mesh_->maps()).value(); }

std::string MeshTest::owner_texts() const {
  std::string text;
  const auto now = base::steady_now().time_since_epoch();
  const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kRead);
  if (!memory) return memory.error().to_string();
  memory->for_each([&](const mesh_owner& owner) {
    const auto books = datapath::read_backend_live(mesh_->maps(), owner.backend_id);
    text += "cookie " + std::to_string(owner.cookie) + " service " + std::to_string(owner.service_id) + " protocol " +
            std::to_string(owner.proto) + " age " +
            base::format_age(now - base::Duration(static_cast<std::int64_t>(owner.start_ns))) + " backend " +
            std::to_string(owner.backend_id) + " opened " + std::to_string(books.opened) + " closed " +
            std::to_string(books.closed) + "\n";
  });
  return text;
}

}  // namespace mesh::test
