// SPDX-License-Identifier: Apache-2.0
#include "app/state_store.hpp"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>

#include "base/fd.hpp"

namespace mesh::app {
namespace {

using namespace std::chrono_literals;

constexpr base::WallTime kSavedAt{std::chrono::seconds(1'790'000'000)};

Config example() {
  LoadResult result = parse_config({{"m.yaml", "m.yaml", R"(
apiVersion: meshd/v1
agent: {cgroups: [/a, /b], limits: {services: 1000}, metrics: {listen: ""}}
defaults: {balance: round_robin, panic_threshold: 0, probe: {type: http, path: "/x?y=\"1\"", interval: 500ms}}
services:
- {name: a, address: 240.64.0.1:80, endpoints: [{address: 10.0.0.1:80, weight: 0}, {address: 10.0.0.2:80, draining: true}]}
- {name: b, address: "[fd00::1]:80", balance: maglev, maglev_size: 1021, hash_key: uid, affinity_timeout: 1m, endpoints: []}
- {name: c, address: 240.64.0.3:53, protocol: udp, endpoints: [10.0.0.3:53]}
- {name: d, address: 240.64.0.4:80, probe: none, endpoints: [10.0.0.3:80]}
- {name: e, address: 240.64.0.5:80, probe: {type: https, sni: e.example, headers: {Authorization: secret}, expect: [200, 300-301]}, endpoints: []}
- {name: f, address: 240.64.0.6:80, probe: {type: tcp, port: 1}, endpoints: []}
)"}});
  EXPECT_TRUE(result.good()) << result.error().to_string();
  return std::move(result.config);
}

StateToSave state_of(const Config& config) {
  auto update = std::make_shared<model::Update>();
  update->services = config.services;
  auto snapshot = std::make_shared<model::Snapshot>();
  snapshot->updates = {std::move(update)};
  return {config.agent, config.sources, std::move(snapshot)};
}

TEST(State, survives_a_round_trip_whole) {
  const Config config = example();
  const std::string content = encode_state(state_of(config), kSavedAt);
  const auto state = decode_state(content);
  ASSERT_TRUE(state) << state.error().to_string();
  EXPECT_EQ(state->agent, config.agent);
  EXPECT_EQ(state->saved_at, kSavedAt);
  ASSERT_EQ(state->services.size(), config.services.size());
  for (std::size_t i = 0; i < config.services.size(); ++i) {
    EXPECT_TRUE(state->services[i]->same_as(*config.services[i])) << config.services[i]->name << "\n" << content;
    EXPECT_EQ(state->services[i]->origin, config.services[i]->origin);
    EXPECT_EQ(state->services[i]->source, "file");
  }
}

TEST(State, is_refused_whole_whichever_byte_is_damaged) {
  const Config config = example();
  const std::string content = encode_state(state_of(config), kSavedAt);
  const std::size_t header = content.find('\n');
  for (std::size_t i = 0; i < content.size(); ++i) {
    std::string damaged = content;
    damaged[i] = static_cast<char>(damaged[i] ^ 1);
    const auto state = decode_state(damaged);
    if (i > header) {
      ASSERT_FALSE(state) << "byte " << i;
    } else if (state) {
      // In the header only the time may pass for another one.
      EXPECT_EQ(state->services.size(), config.services.size());
    }
  }
  for (std::size_t size = 0; size < content.size(); size += 7) {
    ASSERT_FALSE(decode_state(std::string_view(content).substr(0, size))) << size;
  }
}

TEST(State, of_another_version_is_refused_by_its_number) {
  const auto state = decode_state("{\"meshd_state\":99,\"bytes\":0}\n");
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().to_string(),
            "read the last good state: it has version 99, this program reads 1; it is not used; the next good "
            "configuration replaces it");
}

TEST(SavePolicy, writes_soon_after_a_quiet_time_and_then_once_per_interval) {
  const base::TimePoint start{100s};
  SavePolicy policy;
  EXPECT_EQ(policy.due(), std::nullopt);
  policy.note_change(start);
  EXPECT_EQ(policy.due(), start + SavePolicy::kSettle);
  policy.note_change(start + 400ms);
  EXPECT_EQ(policy.due(), start + SavePolicy::kSettle);
  policy.note_saved(start + 500ms, true);
  EXPECT_EQ(policy.due(), std::nullopt);
  policy.note_change(start + 600ms);
  EXPECT_EQ(policy.due(), start + 500ms + SavePolicy::kInterval);
  policy.note_saved(start + 6s, false);
  EXPECT_EQ(policy.due(), start + 6s + SavePolicy::kRetryInterval);
}

TEST(StateStore, what_to_do_about_a_failed_write_depends_on_why_it_failed) {
  const auto remedy = [](int errnum) { return remedy_for_unsaved(base::fail_errno(errnum, "write").error()); };
  EXPECT_TRUE(remedy(ENOSPC).starts_with("make room"));
  EXPECT_NE(remedy(EROFS).find("ReadWritePaths="), std::string::npos);
  EXPECT_NE(remedy(ENOTDIR).find("agent.state_dir"), std::string::npos);
}

TEST(StateStore, writes_what_is_pending_when_it_ends) {
  std::string folder = testing::TempDir() + "meshd-state-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const Config config = example();
  EXPECT_EQ(StateStore::load(folder).error().kind, base::ErrorKind::kNotFound);
  {
    StateStore store(folder);
    store.save(state_of(config));
  }
  const auto state = StateStore::load(folder);
  ASSERT_TRUE(state) << state.error().to_string();
  EXPECT_EQ(state->services.size(), config.services.size());
  EXPECT_EQ(std::filesystem::status(StateStore::path_in(folder)).permissions(),
            std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace mesh::app
