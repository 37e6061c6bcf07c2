// SPDX-License-Identifier: Apache-2.0
#include "app/explain.hpp"

#include <gtest/gtest.h>

#include "datapath/records.hpp"
#include "tests/support/routing_builder.hpp"

namespace mesh::app {
namespace {

struct Bench {
  model::ServiceRoutePtr route =
      support::route({.frontend = "240.0.0.1:80", .endpoints = {{"10.0.0.1:80", 1}, {"10.0.0.2:80", 1}}});
  datapath::ServiceTables tables;
  std::vector<datapath::BackendIndex::Entry> backends;
  datapath::Explanation picked{.service_id = 1, .range_id = 2, .backend_id = 7, .backend_generation = 1};

  Bench() {
    for (const std::uint32_t id : {4U, 7U}) {
      mesh_backend backend{};
      const base::SocketAddress& address = route->service->endpoints[id == 7].address;
      std::ranges::copy(address.ip.bytes, backend.addr);
      backend.port_be = static_cast<std::uint16_t>(address.port << 8);
      backends.push_back({id, backend});
    }
  }
  [[nodiscard]] api::ExplainResult explain() const {
    const ServiceFacts facts{.route = *route,
                             .service_id = 1,
                             .tables = tables,
                             .backends = backends,
                             .health = nullptr,
                             .pass_until_ns = 0,
                             .counters = {},
                             .picks = [](std::uint32_t) { return 0; }};
    return explain_service(facts, picked, {}, {});
  }
};

TEST(Explain, says_what_was_compared_the_better_first) {
  Bench bench;
  bench.picked.algorithm = MESH_LATENCY;
  bench.picked.compared = {
      mesh_load{.open = 1, .latency = 1'000'000'000 / MESH_LATENCY_UNIT_NS, .weight = 1, .backend_id = 4},
      mesh_load{.open = 0, .latency = 0, .weight = 1, .backend_id = 7}};
  const auto result = bench.explain();
  EXPECT_EQ(result.choice, "compared");
  EXPECT_EQ(result.pick, "") << "another connect may be answered otherwise";
  EXPECT_EQ(result.why,
            "each connect draws two by weight and takes the one with less latency x open connections; just now "
            "10.0.0.2:80 (0 open, latency unknown) before 10.0.0.1:80 (1 open, 1000.0 ms)");
  bench.picked.algorithm = MESH_LEAST_CONNECTIONS;
  EXPECT_TRUE(bench.explain().why.ends_with("just now 10.0.0.2:80 (0 open) before 10.0.0.1:80 (1 open)"));
}

TEST(Explain, says_when_there_was_nothing_to_compare) {
  Bench bench;
  bench.picked.algorithm = MESH_LEAST_CONNECTIONS;
  EXPECT_TRUE(bench.explain().why.ends_with("just now there was one to take"));
}

}  // namespace
}  // namespace mesh::app
