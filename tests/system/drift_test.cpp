// SPDX-License-Identifier: Apache-2.0
// The kernel's tables really damaged: what can be repaired is, what can't is said with an exit code of its own, and a
// change that can't come into the kernel doesn't wait in silence.
#include <bpf/bpf.h>
#include <fmt/format.h>

#include "datapath/loader.hpp"
#include "datapath/owners.hpp"
#include "datapath/records.hpp"
#include "tests/support/agent_test.hpp"
#include "tests/support/links.hpp"

namespace mesh::test {
namespace {

using datapath::Table;
using std::chrono::seconds;

constexpr const char* kVip = "240.64.0.10:80";
constexpr int kDrift = 5;
constexpr int kDegraded = 3;

class DriftTest : public AgentTest {
 protected:
  void SetUp() override {
    AgentTest::SetUp();
    if (IsSkipped()) return;
    add_servers(2);
    start_agent({.agent_yaml = "  audit_interval: 1s\n", .body = body(7000)});
  }
  [[nodiscard]] std::string body(int port) const {
    return fmt::format("services:\n  - {{name: web, address: \"{}\", endpoints: {}}}\n", kVip, endpoints(port));
  }
  [[nodiscard]] datapath::MapSet maps() const {
    auto opened = datapath::open_pinned_maps(agent_->bpffs(), datapath::Access::kWrite);
    if (!opened) throw std::runtime_error(opened.error().to_string());
    return std::move(*opened);
  }
  static mesh_frontend_key key() {
    return datapath::key_of({*base::SocketAddress::parse(kVip), model::Protocol::kTcp});
  }
  /// Takes the service's frontend out of the kernel, as somebody else would.
  static void lose_frontend(const datapath::MapSet& maps) {
    const mesh_frontend_key frontend = key();
    ASSERT_EQ(::bpf_map_delete_elem(maps.fd(Table::kFrontends), &frontend), 0);
  }
  /// From now on nobody can write to the table from outside the kernel, the agent included.
  static void freeze_frontends(const datapath::MapSet& maps) {
    ASSERT_EQ(::bpf_map_freeze(maps.fd(Table::kFrontends)), 0);
  }
  [[nodiscard]] bool has_condition(const std::string& name) {
    for (const Json& condition : agent_->json({"status"})["conditions"]) {
      if (condition["name"] == name) return true;
    }
    return false;
  }
  [[nodiscard]] bool balanced() { return call(app(), Via::kTcp, kVip, 1)[0].errnum == 0; }
  [[nodiscard]] bool metric(const std::string& line) {
    return agent_->http("/metrics").find("\n" + line) != std::string::npos;
  }
};

TEST_F(DriftTest, what_somebody_took_away_is_put_back) {
  lose_frontend(maps());
  EXPECT_TRUE(eventually(seconds(10), [&] { return has_condition("drift_repaired"); }));
  EXPECT_TRUE(balanced());
  EXPECT_EQ(agent_->ctl({"status"}).code, 0);
  EXPECT_FALSE(metric("mesh_drift_repaired_total{what=\"tables\"} 0"));
  EXPECT_TRUE(metric("mesh_drift_standing 0"));
}

TEST_F(DriftTest, what_can_not_be_put_back_has_an_exit_code_and_is_a_metric) {
  const auto tables = maps();
  lose_frontend(tables);
  freeze_frontends(tables);
  EXPECT_TRUE(eventually(seconds(10), [&] { return agent_->ctl({"status"}).code == kDrift; }))
      << agent_->ctl({"status"}).text;
  EXPECT_TRUE(has_condition("drift"));
  EXPECT_EQ(agent_->ctl({"bpf", "diff"}).code, kDrift);
  EXPECT_TRUE(metric("mesh_drift_standing 1"));
  EXPECT_NE(agent_->http("/readyz").find("503"), std::string::npos) << agent_->http("/readyz?verbose");
}

TEST_F(DriftTest, a_change_that_can_not_be_written_becomes_a_stuck_writer_and_the_old_tables_stay) {
  freeze_frontends(maps());
  // The service is there; another one needs a frontend of its own.
  agent_->reconfigure(body(7000) +
                      fmt::format("  - {{name: more, address: \"240.64.0.11:80\", endpoints: {}}}\n", endpoints(7000)));
  EXPECT_TRUE(eventually(seconds(10), [&] { return has_condition("apply_failed"); }));
  EXPECT_TRUE(balanced());
  EXPECT_TRUE(eventually(seconds(45), [&] { return has_condition("writer_stuck"); }));
  EXPECT_EQ(agent_->ctl({"status"}).code, kDegraded);
  EXPECT_TRUE(balanced());
  agent_->reconfigure(body(7000));  // there is nothing to write any more
  EXPECT_TRUE(eventually(seconds(10), [&] { return !has_condition("writer_stuck") && !has_condition("apply_failed"); }))
      << agent_->ctl({"status"}).text;
}

TEST_F(DriftTest, the_audit_goes_on_over_an_upgrade_and_finds_nothing_of_its_own) {
  const std::string next = built_next_meshd();
  if (next.empty()) GTEST_SKIP() << "SKIPPED: this build has no next meshd";
  ConnectLoop loop(app(), {{Via::kTcp, kVip}});
  for (const std::string& program : {next, built_program("meshd")}) {
    ASSERT_TRUE(loop.await_rounds(20));
    ASSERT_TRUE(agent_->terminate());
    agent_->use_program(program);
    agent_->start_healthy();
    // Two audits of tables and books at least, while connections come and go.
    EXPECT_FALSE(eventually(seconds(4), [&] { return has_condition("drift") || has_condition("drift_repaired"); }))
        << agent_->ctl({"status"}).text;
    lose_frontend(maps());
    EXPECT_TRUE(eventually(seconds(10), [&] { return has_condition("drift_repaired"); })) << "by " << program;
  }
  loop.finish();
}

TEST_F(DriftTest, records_whose_sockets_went_unseen_are_freed) {
  const Process holder = Process::start(app(), [] { return hold_open("240.64.0.10", 80, 5); });
  const auto tables = maps();
  ASSERT_TRUE(eventually(seconds(10), [&] { return agent_->json({"connections"})["total"] == 5; }));
  // A record of a socket that never was, as one that went unseen leaves it.
  const auto memory = datapath::OwnerMemory::map(tables, datapath::Access::kWrite);
  ASSERT_TRUE(memory);
  mesh_owner stale{};
  memory->for_each([&](const mesh_owner& record) { stale = record; });
  stale.cookie ^= 1ULL << 40;
  ASSERT_TRUE(memory->put(stale));
  EXPECT_TRUE(eventually(seconds(50), [&] { return metric("mesh_records_freed_total 1"); }))
      << agent_->ctl({"status", "-o", "wide"}).text;
  EXPECT_FALSE(memory->find(stale.cookie));
  EXPECT_EQ(agent_->json({"connections"})["total"], 5);
}

}  // namespace
}  // namespace mesh::test
