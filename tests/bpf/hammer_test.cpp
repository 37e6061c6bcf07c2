// SPDX-License-Identifier: Apache-2.0
// I2: no lookup ever observes a half-updated service or another service's table. Readers with a widened window run
// while two services are updated in turns and everything is reused as soon as the rules allow. The same readers on a
// hash whose elements are replaced must fail, or the test proves nothing.
#include "tests/bpf/hammer.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <thread>

// clang-format off: the skeleton has a member of the type mesh_config
#include "mesh_config.h"
#include "hammer.skel.h"
// clang-format on
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

constexpr std::uint8_t kTcp = IPPROTO_TCP;
constexpr std::uint32_t kTurns = 2000;
constexpr std::uint8_t kMarks[2] = {0x11, 0x22};
const base::SocketAddress kFrontends[2] = {at("240.64.0.60:80"), at("240.64.0.61:80")};

struct Close {
  void operator()(hammer_bpf* skeleton) const { hammer_bpf__destroy(skeleton); }
};

class HammerTest : public MeshTest {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (!mesh_) return;
    readers_.reset(hammer_bpf__open());
    ASSERT_NE(readers_, nullptr);
    for (std::size_t i = 0; i < datapath::kTableCount; ++i) {
      const auto table = datapath::table_at(i);
      bpf_map* map = ::bpf_object__find_map_by_name(readers_->obj, std::string(to_string(table)).c_str());
      ASSERT_EQ(::bpf_map__reuse_fd(map, mesh_->maps().fd(table)), 0);
    }
    if (hammer_bpf__load(readers_.get()) != 0)
      GTEST_SKIP() << "SKIPPED: the kernel has no bpf_rcu_read_lock (Linux 6.2)";
  }

  /// Runs one reader thread per service until `stop`, summing up.
  hammer read(int program, const std::function<bool(const hammer& so_far)>& write_and_go_on) {
    std::atomic<bool> stop = false;
    std::vector<hammer> results(2);
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < 2; ++i) {
      threads.emplace_back([&, i] {
        hammer& mine = results[i];
        mine.frontend = key_of(kFrontends[i], kTcp);
        mine.mark = kMarks[i];
        mine.turns = kTurns;
        while (!stop) {
          bpf_test_run_opts run{};
          run.sz = sizeof(run);
          run.ctx_in = &mine;
          run.ctx_size_in = sizeof(mine);
          if (::bpf_prog_test_run_opts(program, &run) != 0) break;
          std::atomic_ref(published_[i].wrong).store(mine.torn + mine.foreign);
          std::atomic_ref(published_[i].picks).store(mine.picks);
        }
      });
    }
    hammer seen{};
    do {
      seen.picks = std::atomic_ref(published_[0].picks).load() + std::atomic_ref(published_[1].picks).load();
      seen.torn = std::atomic_ref(published_[0].wrong).load() + std::atomic_ref(published_[1].wrong).load();
    } while (write_and_go_on(seen));
    stop = true;
    for (std::thread& thread : threads) thread.join();
    hammer sum{};
    for (const hammer& one : results) {
      sum.picks += one.picks;
      sum.torn += one.torn;
      sum.foreign += one.foreign;
      sum.refused += one.refused;
    }
    return sum;
  }

  struct Published {
    std::uint64_t picks = 0, wrong = 0;
  };
  Published published_[2];
  std::unique_ptr<hammer_bpf, Close> readers_;
};

TEST_F(HammerTest, two_services_updated_in_turns_are_never_confused) {
  // Backends 1-4 are the first service's, 5-8 the second's.
  for (int service = 0; service < 2; ++service) {
    std::vector<base::SocketAddress> backends;
    for (int i = 0; i < 4; ++i) {
      const std::string byte = std::to_string(kMarks[service]);
      backends.push_back(at(byte + "." + byte + "." + byte + "." + byte + ":" + std::to_string(1 + i)));
    }
    tables_->add_service(kFrontends[service], kTcp, backends);
  }
  // Ranges and slots go round: what one service leaves, the other takes, after one grace period for a whole batch.
  constexpr std::uint32_t kBatch = 64, kFirstRange = 100, kFirstSlot = 10'000, kSlotsPerRange = 8;
  auto& store = mesh_->store();
  std::uint32_t update = 0;
  const auto write = [&] {
    const std::uint32_t at_once = update % kBatch;
    if (at_once == 0) ASSERT_EQ(::syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0), 0);
    const std::uint32_t service_id = 1 + update % 2;
    const std::uint32_t half = (update / kBatch) % 2 * kBatch + at_once;
    // Of the other half none is in force any more, except its last two: those of this service and of the other one.
    mesh_range range{};
    range.base = kFirstSlot + half * kSlotsPerRange;
    range.service_id = service_id;
    range.algorithm = update % 3 == 0 ? MESH_WEIGHTED_RANDOM : MESH_ROUND_ROBIN;
    range.count = 4;
    std::vector<mesh_slot> slots;
    for (std::uint32_t i = 0; i < 4; ++i) {
      const std::uint32_t backend = (service_id - 1) * 4 + 1 + (i + update) % 4;
      slots.push_back({backend, service_id});
      if (range.algorithm == MESH_WEIGHTED_RANDOM) slots.push_back({(service_id - 1) * 4 + 1 + i, 0x80000000});
    }
    ASSERT_TRUE(store.write_slots(range.base, slots));
    ASSERT_TRUE(store.write_range(kFirstRange + half, range));
    ASSERT_TRUE(store.store_state(service_id, static_cast<std::uint64_t>(++update) << 32 | (kFirstRange + half)));
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  const hammer sum = read(::bpf_program__fd(readers_->progs.hammer_mesh), [&](const hammer&) {
    write();
    return std::chrono::steady_clock::now() < end && !HasFatalFailure();
  });
  EXPECT_GT(update, 1000U);
  EXPECT_GT(sum.picks, 10'000U);
  EXPECT_EQ(sum.torn, 0U) << "of " << sum.picks;
  EXPECT_EQ(sum.foreign, 0U) << "of " << sum.picks;
  EXPECT_EQ(sum.refused, 0U) << "of " << sum.picks;
  std::printf("I2: %llu picks under %u updates: none torn, none foreign\n", sum.picks, update);
}

TEST_F(HammerTest, a_design_that_flips_hash_elements_fails_the_same_test) {
  const int naive = ::bpf_map__fd(readers_->maps.naive);
  std::uint32_t update = 0;
  const auto write = [&] {
    const int service = static_cast<int>(update++ % 2);
    const mesh_frontend_key key = key_of(kFrontends[service], kTcp);
    hammer_naive record{};
    std::memset(record.address, kMarks[service], sizeof(record.address));
    ASSERT_EQ(::bpf_map_update_elem(naive, &key, &record, BPF_ANY), 0);
  };
  write();
  write();
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  const hammer sum = read(::bpf_program__fd(readers_->progs.hammer_hash), [&](const hammer& seen) {
    write();
    return seen.torn == 0 && std::chrono::steady_clock::now() < end && !HasFatalFailure();
  });
  EXPECT_GT(sum.torn + sum.foreign, 0U) << "of " << sum.picks << " reads under " << update << " updates";
  std::printf("hash elements: %llu picks under %u updates: %llu torn, %llu foreign\n", sum.picks, update, sum.torn,
              sum.foreign);
}

}  // namespace
}  // namespace mesh::test
