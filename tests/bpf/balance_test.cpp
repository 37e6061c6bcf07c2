// SPDX-License-Identifier: Apache-2.0
// The choice itself: shares by chi-square, client keys, session affinity, and that explain tells the truth.
#include <bpf/bpf.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <set>

#include "base/random.hpp"
#include "datapath/client_identity.hpp"
#include "datapath/counters.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint8_t kTcp = IPPROTO_TCP;
const base::SocketAddress kVip = at("240.64.0.30:80");

/// The value chi-square exceeds by chance once in a million (Wilson and Hilferty's approximation).
double chi_square_limit(unsigned degrees) {
  constexpr double kNormalQuantile = 4.7534;  // of 1 - 1e-6
  const double k = degrees;
  return k * std::pow(1 - 2 / (9 * k) + kNormalQuantile * std::sqrt(2 / (9 * k)), 3);
}

double chi_square(const std::vector<std::uint64_t>& seen, const std::vector<double>& shares, std::uint64_t picks) {
  double sum = 0;
  for (std::size_t i = 0; i < seen.size(); ++i) {
    const double expected = shares[i] * static_cast<double>(picks);
    sum += (static_cast<double>(seen[i]) - expected) * (static_cast<double>(seen[i]) - expected) / expected;
  }
  return sum;
}

/// Vose's alias method, as the compiler's table must look: entry i is {id, service}, {alias, threshold}.
std::vector<mesh_slot> alias_table(const std::vector<std::uint32_t>& weights, const std::vector<std::uint32_t>& ids,
                                   std::uint32_t service_id) {
  const auto n = static_cast<double>(weights.size());
  double sum = 0;
  for (const std::uint32_t weight : weights) sum += weight;
  std::vector<double> left;
  for (const std::uint32_t weight : weights) left.push_back(weight * n / sum);
  std::vector<std::size_t> small, large, alias(weights.size());
  std::vector<double> threshold(weights.size(), 1);
  for (std::size_t i = 0; i < left.size(); ++i) (left[i] < 1 ? small : large).push_back(i);
  while (!small.empty() && !large.empty()) {
    const std::size_t s = small.back(), l = large.back();
    small.pop_back();
    threshold[s] = left[s];
    alias[s] = l;
    left[l] -= 1 - left[s];
    if (left[l] < 1) {
      large.pop_back();
      small.push_back(l);
    }
  }
  std::vector<mesh_slot> slots;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const double scaled = threshold[i] * 4294967296.0;
    slots.push_back({ids[i], service_id});
    slots.push_back({ids[alias[i]], scaled >= 4294967295.0 ? 0xffffffffU : static_cast<std::uint32_t>(scaled)});
  }
  return slots;
}

class BalanceTest : public MeshTest {
 protected:
  datapath::Explanation pick(const datapath::ExplainClient& client = {}) {
    auto answer = mesh_->explain(key_of(kVip, kTcp), client);
    EXPECT_TRUE(answer) << answer.error().to_string();
    return *answer;
  }
  std::vector<base::SocketAddress> addresses(unsigned count) {
    std::vector<base::SocketAddress> result;
    for (unsigned i = 0; i < count; ++i) result.push_back(at("127.9.0.1:" + std::to_string(1000 + i)));
    return result;
  }
  std::vector<Server> servers(unsigned count) {
    std::vector<Server> result;
    for (unsigned i = 0; i < count; ++i) result.push_back(tcp_server());
    return result;
  }
  std::vector<base::SocketAddress> addresses(const std::vector<Server>& servers) {
    std::vector<base::SocketAddress> result;
    for (const Server& server : servers) result.push_back(server.address);
    return result;
  }
  /// Connects and says which backend got it.
  std::uint32_t connect_once(std::uint32_t service_id, const base::Fd& fd = open_socket(AF_INET, SOCK_STREAM)) {
    std::map<std::uint32_t, std::uint64_t> before;
    for (const std::uint32_t id : tables_->backends_of(service_id)) before[id] = opened(id);
    EXPECT_EQ(connect_to(fd, kVip), 0);
    for (const auto& [id, count] : before) {
      if (opened(id) != count) return id;
    }
    return 0;
  }
};

TEST_F(BalanceTest, weighted_random_follows_the_weights) {
  const std::uint64_t seed = std::random_device{}();
  SCOPED_TRACE("seed " + std::to_string(seed));
  base::Random random(seed);
  constexpr std::uint64_t kPicks = 100'000;
  const std::uint32_t id = tables_->add_service(kVip, kTcp, addresses(20));
  const auto ids = tables_->backends_of(id);
  for (int round = 0; round < 3; ++round) {
    std::vector<std::uint32_t> weights;
    double sum = 0;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      weights.push_back(static_cast<std::uint32_t>(1 + random.below(round == 0 ? 1 : 100)));
      sum += weights.back();
    }
    tables_->publish_alias(id, alias_table(weights, ids, id));
    std::map<std::uint32_t, std::uint64_t> seen;
    for (std::uint64_t i = 0; i < kPicks; ++i) ++seen[pick().backend_id];
    std::vector<std::uint64_t> counts;
    std::vector<double> shares;
    for (std::size_t i = 0; i < ids.size(); ++i) {
      counts.push_back(seen[ids[i]]);
      shares.push_back(weights[i] / sum);
    }
    EXPECT_LT(chi_square(counts, shares, kPicks), chi_square_limit(static_cast<unsigned>(ids.size() - 1)));
  }
}

TEST_F(BalanceTest, extreme_weights_get_their_share) {
  const std::uint32_t id = tables_->add_service(kVip, kTcp, addresses(2));
  const auto ids = tables_->backends_of(id);
  tables_->publish_alias(id, alias_table({1, 999}, ids, id));
  constexpr std::uint64_t kPicks = 200'000;
  std::uint64_t light = 0;
  for (std::uint64_t i = 0; i < kPicks; ++i) light += pick().backend_id == ids[0];
  EXPECT_LT(chi_square({light, kPicks - light}, {0.001, 0.999}, kPicks), chi_square_limit(1));
}

TEST_F(BalanceTest, hashed_keys_spread_evenly_and_stay) {
  for (const std::uint8_t algorithm : {MESH_MAGLEV, MESH_SOURCE_HASH}) {
    mesh_.reset();
    ASSERT_TRUE(datapath::detach_all(sandbox_->pins()));
    open();
    const std::uint32_t id =
        tables_->add_service(kVip, kTcp, addresses(10), {.algorithm = algorithm, .hash_key = MESH_KEY_UID});
    constexpr std::uint64_t kClients = 50'000;
    std::map<std::uint32_t, std::uint64_t> seen;
    for (std::uint32_t uid = 0; uid < kClients; ++uid) {
      const std::uint32_t backend = pick({.uid = uid}).backend_id;
      ++seen[backend];
      if (uid % 100 == 0) EXPECT_EQ(pick({.uid = uid}).backend_id, backend);
    }
    std::vector<std::uint64_t> counts;
    for (const std::uint32_t backend : tables_->backends_of(id)) counts.push_back(seen[backend]);
    EXPECT_LT(chi_square(counts, std::vector<double>(10, 0.1), kClients), chi_square_limit(9));
  }
}

TEST_F(BalanceTest, explain_foretells_connect_for_every_hash_key) {
  const auto backends = servers(8);
  const std::uint32_t id = tables_->add_service(kVip, kTcp, addresses(backends));
  const auto ids = tables_->backends_of(id);
  std::vector<std::unique_ptr<Cgroup>> leaves;
  for (int i = 0; i < 6; ++i) {
    leaves.push_back(std::make_unique<Cgroup>("leaf" + std::to_string(i), &sandbox_->cgroup));
  }
  for (const std::uint8_t key : {MESH_KEY_NAMESPACE, MESH_KEY_CGROUP, MESH_KEY_UID, MESH_KEY_SOURCE_ADDRESS}) {
    tables_->publish(id, ids, {.algorithm = MESH_SOURCE_HASH, .hash_key = key});
    std::set<std::uint32_t> used;
    for (std::size_t i = 0; i < leaves.size(); ++i) {
      leaves[i]->enter();
      ASSERT_EQ(::syscall(SYS_setresuid, 3000 + i, -1, -1), 0);
      const base::SocketAddress source = at("127.0.0." + std::to_string(10 + i) + ":1");
      const base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
      sockaddr_storage storage{};
      const socklen_t length = source.to_sockaddr(storage);
      reinterpret_cast<sockaddr_in*>(&storage)->sin_port = 0;
      ASSERT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&storage), length), 0);

      auto self = datapath::identify_client(Cgroup::root(), "");
      ASSERT_TRUE(self) << self.error().to_string();
      datapath::ExplainClient client{self->netns_cookie, leaves[i]->id(), static_cast<std::uint32_t>(3000 + i),
                                     source.ip};
      const datapath::Explanation foretold = pick(client);
      EXPECT_EQ(foretold.hash_key, key);
      EXPECT_EQ(connect_once(id, fd), foretold.backend_id) << "hash key " << int{key};
      used.insert(foretold.backend_id);
      ASSERT_EQ(::syscall(SYS_setresuid, 0, -1, -1), 0);
    }
    if (key == MESH_KEY_NAMESPACE) {
      EXPECT_EQ(used.size(), 1U);
    } else {
      EXPECT_GT(used.size(), 1U) << "six clients, eight backends: all on one has a chance of 1 in 32768";
    }
  }
  Cgroup::leave();
}

TEST_F(BalanceTest, source_address_is_the_same_client_on_either_family_of_socket) {
  const auto backends = servers(8);
  const std::uint32_t id = tables_->add_service(kVip, kTcp, addresses(backends),
                                                {.algorithm = MESH_SOURCE_HASH, .hash_key = MESH_KEY_SOURCE_ADDRESS});
  for (int i = 1; i < 6; ++i) {
    const auto bound = [&](int family) {
      base::Fd fd = open_socket(family, SOCK_STREAM);
      sockaddr_in6 v6{};
      sockaddr_in v4{};
      const base::IpAddress ip = *base::IpAddress::parse("127.0.1." + std::to_string(i));
      v6.sin6_family = AF_INET6;
      std::memcpy(&v6.sin6_addr, ip.bytes.data(), 16);
      v4.sin_family = AF_INET;
      std::memcpy(&v4.sin_addr, ip.bytes.data() + 12, 4);
      EXPECT_EQ(family == AF_INET ? ::bind(fd.get(), reinterpret_cast<sockaddr*>(&v4), sizeof(v4))
                                  : ::bind(fd.get(), reinterpret_cast<sockaddr*>(&v6), sizeof(v6)),
                0);
      return fd;
    };
    EXPECT_EQ(connect_once(id, bound(AF_INET)), connect_once(id, bound(AF_INET6)));
  }
  EXPECT_EQ(connect_once(id), connect_once(id, open_socket(AF_INET6, SOCK_STREAM))) << "unbound sockets share one key";
}

TEST_F(BalanceTest, affinity_keeps_a_client_until_its_timeout) {
  const auto backends = servers(6);
  const RangeSpec spec{.algorithm = MESH_ROUND_ROBIN, .hash_key = MESH_KEY_NAMESPACE, .affinity_timeout_s = 100};
  const std::uint32_t id = tables_->add_service(kVip, kTcp, addresses(backends), spec);
  const std::uint32_t first = connect_once(id);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(connect_once(id), first);
  EXPECT_EQ(live(id).affinity_hits, 10U);

  // Its backend stops being usable: another one, which is then kept.
  tables_->set_backend_flags(first, 0);
  std::vector<std::uint32_t> rest;
  for (const std::uint32_t backend : tables_->backends_of(id)) {
    if (backend != first) rest.push_back(backend);
  }
  tables_->publish(id, rest, spec);
  const std::uint32_t second = connect_once(id);
  EXPECT_NE(second, first);
  EXPECT_EQ(connect_once(id), second);

  // Its record gets old.
  const datapath::MapSet& maps = mesh_->maps();
  const int fd = maps.fd(datapath::Table::kAffinity);
  mesh_affinity_key key{};
  mesh_affinity value{};
  ASSERT_TRUE(
      datapath::scan_hash(fd, maps.shape(datapath::Table::kAffinity), [&](const std::byte* k, const std::byte* v) {
        std::memcpy(&key, k, sizeof(key));
        std::memcpy(&value, v, sizeof(value));
      }));
  value.last_used_ns -= 101ULL * 1'000'000'000;
  ASSERT_EQ(::bpf_map_update_elem(fd, &key, &value, BPF_EXIST), 0);
  EXPECT_NE(connect_once(id), second) << "round robin goes on";

  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const std::uint64_t now_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000;
  EXPECT_EQ(datapath::sweep_affinity(maps, now_ns).value(), 0U);
  EXPECT_EQ(datapath::sweep_affinity(maps, now_ns + 200ULL * 1'000'000'000).value(), 1U);
}

TEST_F(BalanceTest, a_full_affinity_map_balances_without_and_says_so) {
  mesh_.reset();
  ASSERT_TRUE(datapath::detach_all(sandbox_->pins()));
  open([](datapath::DatapathOptions& options) { options.sizes.affinities = 16; });
  const auto backends = servers(4);
  const std::uint32_t id =
      tables_->add_service(kVip, kTcp, addresses(backends),
                           {.algorithm = MESH_ROUND_ROBIN, .hash_key = MESH_KEY_UID, .affinity_timeout_s = 100});
  for (unsigned i = 0; i < 100; ++i) {
    ASSERT_EQ(::syscall(SYS_setresuid, 5000 + i, -1, -1), 0);
    EXPECT_NE(connect_once(id), 0U);
  }
  ASSERT_EQ(::syscall(SYS_setresuid, 0, -1, -1), 0);
  EXPECT_GE(reason(MESH_REASON_AFFINITY_FULL), 100U - 16 - 2) << "the kernel keeps a spare element per CPU";
  EXPECT_EQ(live(id).connects, 100U);
}

class LoadTest : public BalanceTest {
 protected:
  void serve(std::uint8_t algorithm, unsigned count) {
    servers_ = servers(count);
    service_ = tables_->add_service(kVip, kTcp, addresses(servers_), spec(algorithm));
    ids_ = tables_->backends_of(service_);
  }
  static RangeSpec spec(std::uint8_t algorithm) { return {.algorithm = algorithm, .flags = MESH_RANGE_FEEDBACK}; }

  /// Connects and stays connected.
  std::uint32_t hold() {
    base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
    const std::uint32_t id = connect_once(service_, fd);
    held_.emplace_back(id, std::move(fd));
    return id;
  }
  unsigned held_by(std::uint32_t id) const {
    return static_cast<unsigned>(std::ranges::count(held_, id, [](const auto& one) { return one.first; }));
  }
  void let_go_of(std::uint32_t id) {
    std::erase_if(held_, [&](const auto& one) { return one.first == id; });
  }
  void set_latency(std::uint32_t id, std::uint64_t us) {
    const int fd = mesh_->maps().fd(datapath::Table::kBackendLive);
    mesh_backend_live live{};
    ASSERT_EQ(::bpf_map_lookup_elem(fd, &id, &live), 0);
    live.latency = us == 0 ? 0 : mesh_latency_sample(0, us, now_ns());
    ASSERT_EQ(::bpf_map_update_elem(fd, &id, &live, BPF_EXIST), 0);
  }
  static std::uint64_t now_ns() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<std::uint64_t>(now.tv_nsec);
  }

  std::vector<Server> servers_;
  std::uint32_t service_ = 0;
  std::vector<std::uint32_t> ids_;
  std::vector<std::pair<std::uint32_t, base::Fd>> held_;
};

TEST_F(LoadTest, least_connections_fills_up_who_has_fewest) {
  serve(MESH_LEAST_CONNECTIONS, 2);
  for (int i = 0; i < 20; ++i) hold();
  EXPECT_EQ(held_by(ids_[0]), 10U) << "of two, both are compared each time";
  let_go_of(ids_[0]);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(hold(), ids_[0]);
  EXPECT_EQ(held_by(ids_[1]), 10U);
}

TEST_F(LoadTest, least_connections_is_relative_to_weights) {
  serve(MESH_LEAST_CONNECTIONS, 2);
  tables_->set_backend_weight(ids_[1], 3);
  tables_->publish_alias(service_, alias_table({1, 3}, ids_, service_), spec(MESH_LEAST_CONNECTIONS));
  for (int i = 0; i < 200; ++i) hold();
  // The lighter one is drawn against the other in half of the connects: often enough for its quarter, never for more.
  EXPECT_GE(held_by(ids_[0]), 45U);
  EXPECT_LE(held_by(ids_[0]), 50U);
}

TEST_F(LoadTest, many_backends_never_differ_by_much) {
  serve(MESH_LEAST_CONNECTIONS, 8);
  for (int i = 0; i < 400; ++i) hold();
  for (const std::uint32_t id : ids_) {
    EXPECT_GE(held_by(id), 44U);
    EXPECT_LE(held_by(id), 56U);
  }
}

TEST_F(LoadTest, latency_weighs_time_against_open_connections) {
  serve(MESH_LATENCY, 2);
  set_latency(ids_[0], 10'000);
  set_latency(ids_[1], 55'000);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(hold(), ids_[0]) << "10 ms x 5 is less than 55 ms x 1";
  EXPECT_EQ(hold(), ids_[1]) << "10 ms x 6 is more";
}

TEST_F(LoadTest, latency_is_learned_from_connections) {
  serve(MESH_LATENCY, 2);
  EXPECT_NE(hold(), hold()) << "of neither anything is known: fewer open connections";
  // One ends after more than ten times the other's time.
  ::usleep(3'000);
  let_go_of(ids_[0]);
  ::usleep(60'000);
  let_go_of(ids_[1]);
  for (int i = 0; i < 5; ++i) EXPECT_EQ(hold(), ids_[0]);
}

TEST_F(LoadTest, an_unknown_backend_is_tried_and_not_flooded) {
  serve(MESH_LATENCY, 2);
  set_latency(ids_[0], 10'000);
  EXPECT_EQ(hold(), ids_[1]);
  EXPECT_EQ(hold(), ids_[0]) << "nothing is known yet, but somebody is trying";
}

TEST_F(LoadTest, a_backend_that_refuses_does_not_attract_connections) {
  for (const std::uint8_t algorithm : {MESH_LEAST_CONNECTIONS, MESH_LATENCY}) {
    serve(algorithm, 2);
    set_latency(ids_[1], 20'000);
    servers_[0].fd.reset();
    int refused = 0;
    for (int i = 0; i < 20; ++i) refused += connect_to(open_socket(AF_INET, SOCK_STREAM), kVip) == ECONNREFUSED;
    EXPECT_LE(refused, 1) << "the one by which it was found out";
    tables_->remove_frontend(kVip, kTcp);
  }
}

TEST_F(LoadTest, explain_says_what_was_compared) {
  serve(MESH_LATENCY, 2);
  set_latency(ids_[0], 10'000);
  set_latency(ids_[1], 100'000);
  hold();
  const datapath::Explanation picked = pick();
  EXPECT_EQ(picked.backend_id, ids_[0]);
  std::map<std::uint32_t, mesh_load> compared;
  for (const mesh_load& load : picked.compared) compared[load.backend_id] = load;
  EXPECT_EQ(compared[ids_[0]].open, 1U);
  EXPECT_EQ(compared[ids_[1]].open, 0U);
  EXPECT_GT(compared[ids_[1]].latency, 8 * compared[ids_[0]].latency);
  tables_->publish(service_, {ids_[1]}, spec(MESH_LATENCY));
  EXPECT_EQ(pick().compared[0].backend_id, 0U) << "of one there is nothing to compare";
}

TEST_F(BalanceTest, explain_changes_nothing) {
  const std::uint32_t id =
      tables_->add_service(kVip, kTcp, addresses(4), {.algorithm = MESH_ROUND_ROBIN, .affinity_timeout_s = 60});
  const std::uint32_t first = pick().backend_id;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(pick().backend_id, first);
  EXPECT_EQ(live(id).cursor, 0U);
  EXPECT_EQ(live(id).connects, 0U);
  EXPECT_EQ(opened(first), 0U);
  const auto& maps = mesh_->maps();
  EXPECT_EQ(
      datapath::count_elements(maps.fd(datapath::Table::kAffinity), maps.shape(datapath::Table::kAffinity)).value(),
      0U);
  auto nobody = mesh_->explain(key_of(at("240.64.0.99:1"), kTcp), {});
  ASSERT_TRUE(nobody);
  EXPECT_EQ(nobody->service_id, 0U);
  tables_->publish_empty(id);
  EXPECT_EQ(pick().reason, static_cast<std::uint32_t>(MESH_REASON_NO_BACKEND));
}

}  // namespace
}  // namespace mesh::test
