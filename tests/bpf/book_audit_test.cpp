// SPDX-License-Identifier: Apache-2.0
// Books that somebody tampered with, and the audit that makes them right without losing a count.
#include "datapath/book_audit.hpp"

#include <bpf/bpf.h>
#include <netinet/in.h>

#include <atomic>
#include <thread>

#include "datapath/owners.hpp"
#include "tests/bpf/mesh_fixture.hpp"

namespace mesh::test {
namespace {

using datapath::BookDifference;
using datapath::Table;

class BookAuditTest : public MeshTest {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) return;
    server_ = tcp_server();
    service_ = tables_->add_service(at("240.0.0.1:80"), IPPROTO_TCP, {server_.address});
    backend_ = tables_->backends_of(service_).front();
  }
  base::Fd connected() {
    base::Fd fd = open_socket(AF_INET, SOCK_STREAM);
    EXPECT_EQ(connect_to(fd, at("240.0.0.1:80")), 0);
    return fd;
  }
  mesh_backend_live book() const {
    mesh_backend_live live{};
    EXPECT_EQ(::bpf_map_lookup_elem(mesh_->maps().fd(Table::kBackendLive), &backend_, &live), 0);
    return live;
  }
  void tamper(const std::function<void(mesh_backend_live&)>& change) const {
    mesh_backend_live live = book();
    change(live);
    ASSERT_EQ(::bpf_map_update_elem(mesh_->maps().fd(Table::kBackendLive), &backend_, &live, BPF_EXIST), 0);
  }
  std::vector<std::int64_t> surplus() const {
    const auto found = datapath::compare_books(mesh_->maps());
    EXPECT_TRUE(found);
    std::vector<std::int64_t> numbers;
    for (const BookDifference& difference : *found) {
      EXPECT_EQ(difference.backend_id, backend_);
      numbers.push_back(difference.surplus);
    }
    return numbers;
  }
  void correct() const { ASSERT_TRUE(datapath::correct_books(mesh_->maps(), *datapath::compare_books(mesh_->maps()))); }

  Server server_;
  std::uint32_t service_ = 0;
  std::uint32_t backend_ = 0;
};

using Surplus = std::vector<std::int64_t>;

TEST_F(BookAuditTest, honest_books_balance) {
  const base::Fd one = connected();
  {
    const base::Fd two = connected();
  }
  EXPECT_EQ(surplus(), Surplus{});
}

TEST_F(BookAuditTest, too_many_closed_too_many_opened_and_lost_records_are_corrected) {
  const base::Fd one = connected();
  const base::Fd two = connected();
  tamper([](mesh_backend_live& live) { live.closed += 5; });
  EXPECT_EQ(surplus(), Surplus{5});
  correct();
  EXPECT_EQ(surplus(), Surplus{});
  EXPECT_EQ(book().opened - book().closed, 2U);
  tamper([](mesh_backend_live& live) { live.opened += 3; });
  EXPECT_EQ(surplus(), Surplus{-3});
  correct();
  EXPECT_EQ(surplus(), Surplus{});
  const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kWrite);
  ASSERT_TRUE(memory);
  std::uint64_t lost = 0;
  memory->for_each([&](const mesh_owner& record) { lost = record.cookie; });
  memory->erase(lost);
  EXPECT_EQ(surplus(), Surplus{-1});
  correct();
  EXPECT_EQ(surplus(), Surplus{});
}

TEST_F(BookAuditTest, a_slot_that_another_socket_took_meanwhile_is_left) {
  const auto memory = datapath::OwnerMemory::map(mesh_->maps(), datapath::Access::kWrite);
  ASSERT_TRUE(memory);
  mesh_owner other{};
  {
    const base::Fd one = connected();
    memory->for_each([&](const mesh_owner& record) { other = record; });
    const std::uint64_t first = other.cookie;
    ASSERT_TRUE(memory->erase(first));
    EXPECT_FALSE(memory->erase(first)) << "it is gone";
    other.cookie = first + mesh_->maps().sizes().owners;  // the same slot
    ASSERT_TRUE(memory->put(other));
    EXPECT_FALSE(memory->erase(first));
  }
  EXPECT_TRUE(memory->find(other.cookie)) << "the socket that had the slot before was closed";
  EXPECT_TRUE(memory->erase(other.cookie));
}

TEST_F(BookAuditTest, books_that_were_wiped_get_their_open_connections_back) {
  const base::Fd one = connected();
  tamper([](mesh_backend_live& live) { live = {}; });
  EXPECT_EQ(surplus(), Surplus{1});
  correct();
  EXPECT_EQ(book().opened - book().closed, 1U);
}

TEST_F(BookAuditTest, a_correction_loses_no_count_of_connections_under_way) {
  constexpr std::uint64_t kConnects = 2000;
  std::atomic<bool> done{false};
  std::thread client([&] {
    for (std::uint64_t i = 0; i < kConnects; ++i) connected();
    done = true;
  });
  std::uint64_t corrected = 0;
  while (!done) {
    ASSERT_TRUE(datapath::correct_books(mesh_->maps(), {{backend_, 1, 1}, {backend_, 1, -1}}));
    ++corrected;
  }
  client.join();
  EXPECT_EQ(book().opened, kConnects + corrected);
  EXPECT_EQ(book().closed, kConnects + corrected);
}

}  // namespace
}  // namespace mesh::test
